// How long the runs of a function usually take: the one estimate that the scheduler, the workers and map() share.
//
// Thread safety: none.
#pragma once

#include <algorithm>
#include <chrono>

namespace shmpool::detail {

/// The mean run time of about the last `Runs` runs: of all of them while there are fewer.
template <int Runs>
class run_mean {
 public:
  using duration = std::chrono::nanoseconds;
  static constexpr duration unknown = duration::max();

  /// Unknown before the first run.
  duration get() const noexcept { return mean_; }
  /// A negative time counts as none.
  void add(duration run) noexcept {
    run = std::max(run, duration::zero());
    if (runs_ == Runs) {
      mean_ += (run - mean_) / Runs;
    } else if (runs_++ == 0) {
      mean_ = run;
    } else {
      mean_ += (run - mean_) / runs_;
    }
  }

 private:
  duration mean_ = unknown;
  int runs_ = 0;
};

/// Follows a function whose runs become shorter or longer.
using recent_run_mean = run_mean<4>;
/// Remembers one long run in a hundred, which the recent mean soon forgets.
using lasting_run_mean = run_mean<256>;

}  // namespace shmpool::detail
