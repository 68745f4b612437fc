// Whether it pays to poll for a while instead of sleeping at once. Polling that finds nothing, or that others had to
// wait for, is tried again only after a while: at first after one sleep, at last after many.
//
// Thread safety: none.
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <utility>

namespace shmpool {

class spin_budget {
 public:
  /// Begins to poll, unless it has not paid lately.
  bool begin() noexcept {
    if (skip_ != 0) return --skip_, false;
    return true;
  }
  /// What was waited for has come.
  void found() noexcept {
    penalty_ = 0;
    if (++found_ % looks_between == 0) look_around();
  }
  /// It has not.
  void missed() noexcept {
    penalty_ = std::clamp(2 * penalty_, 1U, most_skipped);
    skip_ = penalty_;
    look_around();
  }

 private:
  static constexpr unsigned most_skipped = 128;
  static constexpr unsigned least_crowded = 64, most_crowded = 1024;
  static constexpr unsigned looks_between = 16;  // successes between two system calls

  /// This thread had to make place for others since the last look: CPUs are short, and who polls takes what others
  /// need. The longer that goes on, the more seldom it is tried.
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
