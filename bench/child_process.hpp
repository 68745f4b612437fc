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
    for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &before_) || n-- > 0) continue;
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      ::sched_setaffinity(0, sizeof one, &one);
      return;
    }
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
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }

 private:
  pid_t pid_;
};

}  // namespace bench
