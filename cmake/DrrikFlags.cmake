# Compiler flags shared by every target of the project, and by none of its users.
add_library(drrik_flags INTERFACE)
target_compile_features(drrik_flags INTERFACE cxx_std_20)
target_compile_options(drrik_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wold-style-cast -Wdouble-promotion
  -Woverloaded-virtual -fno-math-errno $<$<BOOL:${DRRIK_WERROR}>:-Werror>
  # GCC 12 invents overlapping copies in std::string's operator+ at -O3 (GCC bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
if(DRRIK_SANITIZE)
  if(DRRIK_SANITIZE MATCHES "thread" AND DRRIK_SANITIZE MATCHES "address")
    message(FATAL_ERROR "DRRIK_SANITIZE: thread and address cannot be combined")
  endif()
  # Global, so that the whole link sees one runtime.
  add_compile_options(-fsanitize=${DRRIK_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${DRRIK_SANITIZE})
  target_compile_definitions(drrik_flags INTERFACE DRRIK_CHECKED=1)
endif()
target_compile_definitions(drrik_flags INTERFACE $<$<CONFIG:Debug>:DRRIK_CHECKED=1>)
if(DRRIK_BUILD_FUZZ)
  # The parsers themselves must give coverage feedback, not only the targets.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
