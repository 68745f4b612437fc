// The patience with a kernel that refuses what should work, because memory is short for the moment, say: since when it
// refuses, how long to wait before it is asked again, and when it is given up. One acceptance ends a refusal.
//
// Decides only: it does no I/O, and the time is an argument. Thread safety: none; the engine's lock guards it.
#pragma once

#include "process/assert.hpp"
#include "process/clock.hpp"

#include <algorithm>
#include <chrono>

namespace shmpool::pool {

class kernel_patience {
 public:
  using time_point = monotonic_clock::time_point;
  using milliseconds = std::chrono::milliseconds;

  /// How long the kernel may refuse without a break before it may be given up.
  static constexpr std::chrono::seconds limit{2};
  /// Bounds of pause().
  static constexpr milliseconds shortest_pause{1}, longest_pause{50};

  /// The kernel has done what it was asked for.
  void accepted() noexcept {
    SHMPOOL_ASSERT(!given_up_);
    since_ = never;
  }
  /// The kernel has refused, for the first time or again.
  void refused(time_point now) noexcept {
    SHMPOOL_ASSERT(!given_up_);
    if (since_ == never) since_ = now;
  }
  /// The kernel is not asked again: it is refused from now on, and neither pause() nor is_over() tell of it any more.
  void give_up() noexcept {
    since_ = never;
    given_up_ = true;
  }

  /// True if the kernel has refused for `limit`, and was not given up.
  bool is_over(time_point now) const noexcept { return since_ != never && now - since_ >= limit; }
  /// How long to wait before the kernel is asked again: the longer, the longer it has refused. Zero if it does not
  /// refuse, or is not asked again.
  milliseconds pause(time_point now) const noexcept {
    if (since_ == never) return {};
    const auto waited = std::chrono::duration_cast<milliseconds>(now - since_);
    return std::clamp<milliseconds>(waited / 4, shortest_pause, longest_pause);
  }
  bool is_refused() const noexcept { return given_up_ || since_ != never; }
  bool is_given_up() const noexcept { return given_up_; }

 private:
  static constexpr time_point never = time_point::max();

  time_point since_ = never;  // of the refusal
  bool given_up_ = false;
};

}  // namespace shmpool::pool
