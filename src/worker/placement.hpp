// Where a worker polls: not on the CPU of its parent, where each would wait for the time that the other one polls away.
// The kernel puts them there, as it runs a process that is woken where its waker runs, and leaves them there.
//
// Thread safety: none; for the thread that runs the tasks.
#pragma once

#include "process/clock.hpp"

#include <chrono>

namespace shmpool::worker {

class placement {
 public:
  /// True if the calling thread runs on another CPU than `parent`, perhaps because this call has moved it. It stays
  /// where it is if it was moved within the last `interval`, or may run on one CPU only. The CPUs that it may run on
  /// are the same afterwards; but they are set then, so they do not follow a cpuset that grows.
  bool is_apart(unsigned parent) noexcept;

  static constexpr std::chrono::milliseconds interval{5};

 private:
  monotonic_clock::time_point next_move_{};
};

}  // namespace shmpool::worker
