# What the project asks of its own targets and of nobody else's: warnings, and errors from them if SHMPOOL_WERROR is set.

# Marks `target` as one of the project's own.
function(shmpool_project_target target)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion
    $<$<BOOL:${SHMPOOL_WERROR}>:-Werror>)
endfunction()
