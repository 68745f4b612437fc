// Decides whether it pays to poll for a while instead of sleeping at once. After polling that found nothing, or that
// other threads had to wait for, the next attempt comes only after a while: at first after one sleep, later after many.
//
// Thread safety: none.
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <utility>

namespace shmpool {

class spin_budget {
 public:
  /// True if polling is to begin, false if it has not paid lately.
  bool begin() noexcept {
    if (skip_ != 0) return --skip_, false;
    return true;
  }
  /// Polling has succeeded.
  void found() noexcept {
    penalty_ = 0;
    if (++found_ % looks_between == 0) look_around();
  }
  /// Polling has found nothing.
  void missed() noexcept {
    penalty_ = std::clamp(2 * penalty_, 1U, most_skipped);
    skip_ = penalty_;
    look_around();
  }

 private:
  static constexpr unsigned most_skipped = 128;
  static constexpr unsigned least_crowded = 64, most_crowded = 1024;
  static constexpr unsigned looks_between = 16;  // successes between two system calls

  /// If this thread was preempted since the last look, CPUs are short, and polling takes time that other threads need.
  /// The longer that goes on, the less often polling is tried.
  void look_around() noexcept {
    rusage used{};
    ::getrusage(RUSAGE_THREAD, &used);
    if (std::exchange(preemptions_, used.ru_nivcsw) == used.ru_nivcsw) {
      crowded_ /= 2;
    } else {
      crowded_ = std::clamp(2 * crowded_, least_crowded, most_crowded);
      skip_ = std::max(skip_, crowded_);
    }
  }

  unsigned penalty_ = 0, skip_ = 0, crowded_ = 0, found_ = 0;
  long preemptions_ = 0;
};

}  // namespace shmpool
