# Arrow's C++ library, for the plug-in that reads Parquet and Arrow files. Optional.
#
# First an installed Arrow with its CMake packages, else the libraries and headers that the PyPI
# wheel `pyarrow` carries, as tools/setup.sh unpacks them. Sets DRRIK_ARROW_FOUND, the targets
# DrrikArrow::arrow and DrrikArrow::parquet, and DRRIK_ARROW_BUNDLED, what to install beside the
# plug-in.
option(DRRIK_ARROW "Build the plug-in for Parquet and Arrow where Arrow is found" ON)
set(DRRIK_ARROW_DIR "" CACHE PATH "Unpacked Arrow of tools/setup.sh; empty: where that puts it")
set(DRRIK_ARROW_FOUND FALSE)
set(DRRIK_ARROW_BUNDLED "")
if(NOT DRRIK_ARROW)
  message(STATUS "Arrow: turned off; Parquet and Arrow files will not be read")
  return()
endif()

# Older ones lack calls that the plug-in makes.
set(drrik_arrow_oldest 24)
find_package(Arrow CONFIG QUIET)
find_package(Parquet CONFIG QUIET)
if(TARGET Arrow::arrow_shared AND TARGET Parquet::parquet_shared
   AND Arrow_VERSION VERSION_GREATER_EQUAL drrik_arrow_oldest)
  add_library(DrrikArrow::arrow ALIAS Arrow::arrow_shared)
  add_library(DrrikArrow::parquet ALIAS Parquet::parquet_shared)
  set(DRRIK_ARROW_FOUND TRUE)
  message(STATUS "Arrow: ${Arrow_VERSION} (${Arrow_DIR})")
  return()
endif()

set(dir "${DRRIK_ARROW_DIR}")
if(NOT dir AND DEFINED ENV{DRRIK_ARROW_DIR})
  set(dir "$ENV{DRRIK_ARROW_DIR}")
endif()
if(NOT dir)
  set(cache "$ENV{XDG_CACHE_HOME}")
  if(NOT cache)
    set(cache "$ENV{HOME}/.cache")
  endif()
  set(dir "${cache}/drrik/arrow")
endif()
# Not find_library: it would remember a failure after the files have come.
file(GLOB drrik_libarrow LIST_DIRECTORIES false "${dir}/libarrow.so.*")
file(GLOB drrik_libparquet LIST_DIRECTORIES false "${dir}/libparquet.so.*")
list(LENGTH drrik_libarrow arrow_count)
list(LENGTH drrik_libparquet parquet_count)
if(NOT (arrow_count EQUAL 1 AND parquet_count EQUAL 1 AND EXISTS "${dir}/include/arrow/api.h"))
  message(STATUS "Arrow: not found (looked for CMake packages and in ${dir}); "
                 "Parquet and Arrow files will not be read")
  return()
endif()
foreach(name IN ITEMS arrow parquet)
  add_library(DrrikArrow::${name} SHARED IMPORTED)
  set_target_properties(DrrikArrow::${name} PROPERTIES
    IMPORTED_LOCATION "${drrik_lib${name}}"
    INTERFACE_INCLUDE_DIRECTORIES "${dir}/include"
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${dir}/include")
endforeach()
set(DRRIK_ARROW_BUNDLED "${drrik_libarrow}" "${drrik_libparquet}")
if(EXISTS "${dir}/LICENSE.txt")
  list(APPEND DRRIK_ARROW_BUNDLED "${dir}/LICENSE.txt")
endif()
set(DRRIK_ARROW_FOUND TRUE)
message(STATUS "Arrow: ${dir}")
