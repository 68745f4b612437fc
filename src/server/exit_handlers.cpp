#include "server/exit_handlers.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

// These write the coverage and the profile of a program that was compiled with --coverage or -fprofile-generate
// (GCC; clang's -fprofile-instr-generate), after all exit handlers. They do not exist in any other program.
extern "C" {
[[gnu::weak]] void __gcov_exit();               // NOLINT(bugprone-reserved-identifier,readability-identifier-naming)
[[gnu::weak]] int __llvm_profile_write_file();  // NOLINT(bugprone-reserved-identifier,readability-identifier-naming)
}

namespace shmpool::server {

void leave_exit_handlers_to_the_application() noexcept {
  // Exit handlers run in the reverse order of their registration, so this one runs before all present ones, and ends
  // the process. So it has to do the wanted work that normally follows all handlers.
  const auto end = [](int status, void*) {
    std::fflush(nullptr);
    if (&__gcov_exit != nullptr) __gcov_exit();
    if (&__llvm_profile_write_file != nullptr) __llvm_profile_write_file();
    ::_exit(status);
  };
  ::on_exit(end, nullptr);
}

}  // namespace shmpool::server
