// Tells an accident from a pool that cannot keep workers alive: decides when starting has to pause, when to refuse
// tasks, and when to try again. Only workers that ended before they had a task count. A death with a task is held
// against the task: otherwise anybody who can make a task crash could stop the pool.
//
// Failures are counted in rounds. A death counts as a new round only if the worker was started after the last round was
// counted. So one signal that ends 64 workers is one round, and so are 64 initializers that crash on the same missing
// file, without any window of time.
//
// Thread safety: none.
#pragma once

#include "sched/scheduler.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace shmpool::sched {

class crash_monitor {
 public:
  enum class verdict : std::uint8_t {
    carry_on,  ///< replace the worker at once
    back_off,  ///< start no worker before resume_at(), and one at a time then
    give_up,   ///< no worker is left, and broken_limit rounds have failed: broken() from here
  };

  /// A worker that ended, unasked, before it had a task.
  struct loss {
    worker_id worker = 0;
    worker_id latest = 0;           ///< the last worker that was started
    std::optional<duration> lived;  ///< how long it was up; nothing if it never was
    bool certain = false;           ///< the worker itself said that it cannot work, and why: a retry at once is useless
    bool others_up = false;         ///< some worker is up and stays
  };

  explicit crash_monitor(const options& settings);

  verdict lost(const loss& what, time_point now);
  /// The worker is up: it can be started, at least. A broken pool serves again from here.
  void came_up(worker_id worker) noexcept;
  /// The worker has begun a task: it lived long enough. A worker from before the last round proves nothing.
  void served(worker_id worker) noexcept;

  /// A worker could not be started.
  void start_failed(time_point now);
  /// A worker has started, or the next submit is to try at once: forgets failed starts.
  void forget_failed_starts() noexcept;

  /// No worker may be started before this.
  time_point resume_at() const noexcept { return std::max(resume_, start_resume_); }
  /// Rounds have failed in a row: workers are started one at a time, each when the one before has come up.
  bool on_probation() const noexcept { return rounds_ > settings_.crash_limit || rounds_ >= settings_.broken_limit; }

  /// No worker is up, and after all those rounds none is expected to come up.
  bool broken() const noexcept { return broken_; }
  /// No task may be taken in: the pool is broken, and no probe is under way.
  bool refuses() const noexcept { return broken_ && !probing_; }
  bool probe_due(time_point now) const noexcept { return now >= resume_; }
  /// One worker may be started to see whether the cause is gone.
  void begin_probe() noexcept { probing_ = true; }
  /// The probe's worker could not be started, which does not tell whether it would have lived.
  void cancel_probe() noexcept { probing_ = false; }

  pool_health health() const noexcept;

 private:
  options settings_;
  unsigned rounds_ = 0;       ///< that failed in a row, at most broken_limit
  worker_id last_known_ = 0;  ///< the last worker that had been started when the last round was counted
  bool broken_ = false;
  bool probing_ = false;
  time_point resume_ = time_point::min();
  duration next_pause_;
  time_point start_resume_ = time_point::min();
  duration next_start_pause_;
};

}  // namespace shmpool::sched
