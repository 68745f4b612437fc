#include "worker/leaving.hpp"

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace shmpool::worker {

void limit_leaving(std::chrono::seconds most) noexcept {
  // SIGKILL cannot be blocked or handled, and a timer needs no thread to send it. System calls, so that a library that
  // fakes the program's time cannot shift the timer.
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGKILL;
  int timer = 0;
  if (::syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) != 0) return;
  itimerspec due{};
  due.it_value.tv_sec = most.count();
  ::syscall(SYS_timer_settime, timer, 0, &due, nullptr);
}

}  // namespace shmpool::worker
