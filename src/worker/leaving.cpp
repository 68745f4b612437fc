#include "worker/leaving.hpp"

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

// What writes the coverage and the profile of a program that was compiled with --coverage or -fprofile-generate
// (GCC; clang's -fprofile-instr-generate): it runs after all exit handlers. Not there in any other program.
extern "C" {
[[gnu::weak]] void __gcov_exit();               // NOLINT(bugprone-reserved-identifier)
[[gnu::weak]] int __llvm_profile_write_file();  // NOLINT(bugprone-reserved-identifier)
}

namespace shmpool::worker {

void limit_leaving(std::chrono::seconds most) noexcept {
  // A signal that nobody can block or handle, and no thread to send it. By system calls, so that nothing which bends
  // the program's time bends this.
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGKILL;
  int timer = 0;
  if (::syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) != 0) return;
  itimerspec due{};
  due.it_value.tv_sec = most.count();
  ::syscall(SYS_timer_settime, timer, 0, &due, nullptr);
}

void leave_exit_handlers_to_the_application() noexcept {
  // Exit handlers run in the reverse order of their registration, so this one runs before all that are there now, and
  // ends the process. What runs behind them all, and is wanted, is done here.
  const auto end = [](int status, void*) {
    std::fflush(nullptr);
    if (&__gcov_exit != nullptr) __gcov_exit();
    if (&__llvm_profile_write_file != nullptr) __llvm_profile_write_file();
    ::_exit(status);
  };
  ::on_exit(end, nullptr);
}

}  // namespace shmpool::worker
