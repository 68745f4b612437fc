// Whether it pays to poll for a while instead of sleeping at once. Polling that finds nothing, or that others had to wait for,
// is tried again only after a while: at first after one sleep, at last after many.
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
    if (++found_ % looks_between == 0 && preempted()) skip(most_skipped);
  }
  /// It has not.
  void missed() noexcept { skip(std::clamp(preempted() ? most_skipped : 2 * penalty_, 1U, most_skipped)); }

 private:
  static constexpr unsigned most_skipped = 128;
  static constexpr unsigned looks_between = 64;  // successes between two system calls

  void skip(unsigned sleeps) noexcept { penalty_ = skip_ = sleeps; }

  /// Whether this thread had to make place for others since the last call: then CPUs are short.
  bool preempted() noexcept {
    rusage used{};
    ::getrusage(RUSAGE_THREAD, &used);
    return std::exchange(preemptions_, used.ru_nivcsw) + tolerated < used.ru_nivcsw;
  }
  static constexpr long tolerated = 2;  // a machine is never quite still

  unsigned penalty_ = 0, skip_ = 0, found_ = 0;
  long preemptions_ = 0;
};

}  // namespace shmpool
