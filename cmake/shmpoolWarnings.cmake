# What the project asks of its own targets and of nobody else's: warnings, and errors from them if SHMPOOL_WERROR is set.

# With optimisation, GCC 12 warns of overflows in the standard library's own strings and vectors that cannot happen (GCC
# bugs 105651 and 107852), and of an operator delete that does not match where it inlines a coroutine that Asio has allocated.
set(shmpool_false_alarms "")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  set(shmpool_false_alarms -Wno-restrict -Wno-stringop-overflow -Wno-mismatched-new-delete)
endif()

# Marks `target` as one of the project's own.
function(shmpool_project_target target)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion
    ${shmpool_false_alarms}
    $<$<CXX_COMPILER_ID:Clang,AppleClang>:-Wthread-safety>
    $<$<BOOL:${SHMPOOL_WERROR}>:-Werror>)
endfunction()
