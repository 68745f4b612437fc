// A forked process with the other half of a pair, and the CPUs that two processes take which poll for each other.
#pragma once

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <system_error>
#include <utility>

namespace bench {

/// Keeps this thread on one of the CPUs it may use, until it is destroyed; a process forked meanwhile can take another.
/// Two processes that poll for each other on one CPU would wait for each other's time slice.
class pinned {
 public:
  pinned() {
    ::sched_getaffinity(0, sizeof before_, &before_);
    to(0);
  }
  pinned(const pinned&) = delete;
  pinned& operator=(const pinned&) = delete;
  ~pinned() { ::sched_setaffinity(0, sizeof before_, &before_); }

  /// Moves the calling process to the n-th CPU; stays where it is if there are fewer.
  void to(int n) const {
    const int which = cpu(n);
    if (which < 0) return;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(which), &one);
    ::sched_setaffinity(0, sizeof one, &one);
  }

  /// The number of the n-th CPU that could be used before, -1 if there are fewer.
  int cpu(int n) const {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(static_cast<std::size_t>(cpu), &before_) && n-- == 0) return cpu;
    return -1;
  }

 private:
  cpu_set_t before_{};
};

/// Runs `body` in a copy of this process, which ends when the body returns and when this process dies. The destructor
/// kills it and waits for it.
class child_process {
 public:
  template <class Body>
  explicit child_process(Body body) : pid_(::fork()) {
    if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    body();
    ::_exit(0);
  }
  child_process(const child_process&) = delete;
  child_process& operator=(const child_process&) = delete;
  ~child_process() {
    if (pid_ == 0) return;
    ::kill(pid_, SIGKILL);
    wait();
  }

  /// Waits until it has ended by itself.
  void wait() {
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    pid_ = 0;
  }

 private:
  pid_t pid_;
};

}  // namespace bench
