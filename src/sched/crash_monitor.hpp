// Tells a worker that died once from workers that cannot live: when starting has to pause, and when to give up.
//
// Thread safety: none.
#pragma once

#include "sched/scheduler.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace shmpool::sched {

class crash_monitor {
 public:
  enum class verdict : std::uint8_t {
    carry_on,  ///< replace the worker at once
    back_off,  ///< start nothing before resume_at()
    give_up,   ///< broken_limit deaths within the window
  };

  explicit crash_monitor(const options& settings);

  /// A worker ended that nobody had asked to end.
  verdict died(time_point now);
  /// A task completed: workers can live, so what deaths there were are the tasks' own. A pause that has begun goes on.
  void completed() noexcept { recent_.clear(); }

  /// A worker could not be started while others are alive.
  void start_failed(time_point now);
  /// A worker has started, or none is alive and the next submit is to try at once: forgets failed starts.
  void forget_failed_starts() noexcept;

  /// No worker may be started before this.
  time_point resume_at() const noexcept { return std::max(crash_pause_.end, start_resume_); }
  std::uint64_t deaths() const noexcept { return deaths_; }

 private:
  struct pause {
    time_point begin = time_point::min();
    time_point end = time_point::min();
  };

  /// `now` on a clock that stands still while a crash pause lasts. On the plain clock the pauses would carry a single
  /// worker's deaths out of the window as fast as they come in, and a pool of one would never be found broken.
  time_point awake_time(time_point now) const noexcept;
  void begin_crash_pause(time_point now);
  duration longest_pause() const noexcept;

  options settings_;
  std::vector<time_point> recent_;  ///< deaths within the window that no completion followed, in awake_time, oldest first
  std::uint64_t deaths_ = 0;
  pause crash_pause_;
  duration paused_before_{};  ///< length of all crash pauses before the last one
  duration next_crash_pause_;
  duration next_start_pause_;
  time_point start_resume_ = time_point::min();
};

}  // namespace shmpool::sched
