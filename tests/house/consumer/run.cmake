# Installs the built library to a fresh prefix, then configures, builds and runs a project that
# knows only that prefix.
file(REMOVE_RECURSE ${WORK_DIR})
function(step)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "failed: ${ARGN}\n${output}")
  endif()
endfunction()
step(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${WORK_DIR}/prefix)
step(${CMAKE_COMMAND} -S ${SOURCE_DIR} -B ${WORK_DIR}/build -G Ninja -DCMAKE_PREFIX_PATH=${WORK_DIR}/prefix
     -DREADME=${ROOT_DIR}/README.md -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER_LAUNCHER=${CXX_LAUNCHER})
step(${CMAKE_COMMAND} --build ${WORK_DIR}/build)
step(${WORK_DIR}/build/consumer)
# Its paths are relative to the project.
step(${CMAKE_COMMAND} -E chdir ${ROOT_DIR} ${WORK_DIR}/build/readme)

# The installed command reads Parquet through the plug-in beside it, and says what is missing
# without one.
set(parquet ${ROOT_DIR}/tests/data/data/snappy.parquet)
file(GLOB_RECURSE plugin ${WORK_DIR}/prefix/*/libdrrik_arrow.so)
if(plugin)
  step(${WORK_DIR}/prefix/bin/drrik data --dataset ${parquet})
  step(${WORK_DIR}/build/consumer ${parquet})
  file(REMOVE ${plugin})
endif()
execute_process(COMMAND ${WORK_DIR}/prefix/bin/drrik data --dataset ${parquet}
                RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(NOT result EQUAL 3 OR NOT output MATCHES "need Arrow")
  message(FATAL_ERROR "without the plug-in: exit ${result}\n${output}")
endif()
