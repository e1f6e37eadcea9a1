# drrik_add_room(NAME name SOURCES ... HEADERS ... [ROOMS lower rooms...] [LIBS third-party...])
#
# A room is a static library drrik_<name> that links only the rooms below it, so a call upwards
# fails to link even before the include-order check sees it. The installed library drrik is made
# of every room's objects; HEADERS (relative to include/) are its public file set.
function(drrik_add_room)
  cmake_parse_arguments(ARG "" "NAME" "SOURCES;HEADERS;ROOMS;LIBS" ${ARGN})
  set(target drrik_${ARG_NAME})
  add_library(${target} STATIC ${ARG_SOURCES})
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR}/include
                             PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${target} PRIVATE drrik_flags PUBLIC ${ARG_LIBS})
  foreach(room IN LISTS ARG_ROOMS)
    target_link_libraries(${target} PUBLIC drrik_${room})
  endforeach()
  set_property(GLOBAL APPEND PROPERTY DRRIK_ROOMS ${target})
  set_property(GLOBAL APPEND PROPERTY DRRIK_LIBS ${ARG_LIBS})
  foreach(header IN LISTS ARG_HEADERS)
    set_property(GLOBAL APPEND PROPERTY DRRIK_HEADERS ${PROJECT_SOURCE_DIR}/include/${header})
  endforeach()
endfunction()

# drrik_add_tests(ROOM name SOURCES ... [LABELS unit] [ROOMS rooms to link beside it])
# One gtest program drrik_<room>_tests; ctest runs each case by name.
function(drrik_add_tests)
  cmake_parse_arguments(ARG "" "ROOM" "SOURCES;LABELS;ROOMS;LIBS" ${ARGN})
  set(target drrik_${ARG_ROOM}_tests)
  add_executable(${target} ${ARG_SOURCES})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${target} PRIVATE
    DRRIK_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data"
    DRRIK_SHARED_DIR="${PROJECT_SOURCE_DIR}/../shared"
    DRRIK_ASSETS_DIR="${PROJECT_SOURCE_DIR}/assets")
  target_link_libraries(${target} PRIVATE drrik_flags drrik_${ARG_ROOM} GTest::gtest_main ${ARG_LIBS})
  foreach(room IN LISTS ARG_ROOMS)
    target_link_libraries(${target} PRIVATE drrik_${room})
  endforeach()
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  include(GoogleTest)
  gtest_discover_tests(${target} DISCOVERY_TIMEOUT 60
                       PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 300)
endfunction()
