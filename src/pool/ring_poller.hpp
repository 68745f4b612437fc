// Whether the parent looks at the rings of its workers again and again, between the handlers of the user's loop: while
// it is awake anyway (several handlers are due), or while polling is cheaper than to sleep and be woken. Workers that
// know that it looks send nothing (docs/adr/0009-polled-replies.md).
//
// Thread safety: polling() may be called by any thread; the engine's lock guards the rest.
#pragma once

#include "process/clock.hpp"
#include "process/spin_budget.hpp"

#include <atomic>
#include <chrono>

namespace shmpool::pool {

class ring_poller {
 public:
  using time_point = monotonic_clock::time_point;

  /// `spin`: how long to look for something with nothing else to do, as long as fewer than `cpus` workers are busy.
  ring_poller(std::chrono::nanoseconds spin, unsigned cpus) noexcept : most_(spin), cpus_(cpus) {}

  /// Somebody is going to look.
  bool polling() const noexcept { return polling_.load(std::memory_order_acquire); }
  bool polling_under_lock() const noexcept { return polling_.load(std::memory_order_relaxed); }

  /// How long to look with nothing else to do, and how long a worker may: not at all if others need the CPUs.
  std::chrono::nanoseconds spin_time(unsigned busy_workers) const noexcept {
    return busy_workers < cpus_ ? most_ : std::chrono::nanoseconds::zero();  // this thread needs one
  }
  /// Decides whether rings are looked at from here on. `awake`: several handlers are due. `spin`: spin_time().
  void plan(bool awake, std::chrono::nanoseconds spin, time_point now) noexcept;
  /// A look has found something.
  void found() noexcept;
  /// True if a look that has found nothing is to be the last.
  bool is_over(time_point now) const noexcept { return now >= until_; }
  /// Nobody looks any more. False if nobody did.
  bool end() noexcept;
  /// The pool is at its end.
  void close() noexcept { polling_.store(false, std::memory_order_release); }

 private:
  const std::chrono::nanoseconds most_;
  const unsigned cpus_;
  std::atomic<bool> polling_{false};
  time_point until_{};
  bool spinning_ = false;  // also while there is nothing else to do
  bool found_ = false;     // since it began
  spin_budget budget_;
};

}  // namespace shmpool::pool
