# Turns SHMPOOL_SANITIZE (a list such as address,undefined) into flags for everything below this directory: instrumented
# and plain code must not meet in one program. SHMPOOL_SANITIZE_FLAGS is left for the tests that start a compiler.
set(SHMPOOL_SANITIZE_FLAGS "")
if(SHMPOOL_SANITIZE)
  string(REPLACE ";" "," shmpool_sanitizers "${SHMPOOL_SANITIZE}")
  set(SHMPOOL_SANITIZE_FLAGS -fsanitize=${shmpool_sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  if(shmpool_sanitizers MATCHES "undefined")
    # It looks at memory by way of a pipe: at the limit of descriptors every object has the wrong type.
    list(APPEND SHMPOOL_SANITIZE_FLAGS -fno-sanitize=vptr)
  endif()
  add_compile_options(${SHMPOOL_SANITIZE_FLAGS})
  add_link_options(${SHMPOOL_SANITIZE_FLAGS})
endif()
