// Decides whether the parent polls the rings of its workers between the handlers of the user's loop: while it is awake
// anyway (several handlers are due), or while polling is cheaper than to sleep and be woken. Workers that know that the
// parent polls send nothing (docs/adr/0009-polled-replies.md).
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

  /// `spin`: how long to poll with nothing else to do, as long as fewer than `cpus` workers are busy.
  ring_poller(std::chrono::nanoseconds spin, unsigned cpus) noexcept : most_(spin), cpus_(cpus) {}

  /// True while the parent polls.
  bool polling() const noexcept { return polling_.load(); }
  bool polling_under_lock() const noexcept { return polling_.load(std::memory_order_relaxed); }

  /// How long the parent, and a worker, may poll with nothing else to do: not at all if busy workers need the CPUs.
  std::chrono::nanoseconds spin_time(unsigned busy_workers) const noexcept {
    return busy_workers < cpus_ ? most_ : std::chrono::nanoseconds::zero();  // this thread needs one
  }
  /// Decides whether the parent polls from now on. `awake`: several handlers are due. `spin`: spin_time().
  void plan(bool awake, std::chrono::nanoseconds spin, time_point now) noexcept;
  /// A look at the rings has found replies.
  void found() noexcept;
  /// True if polling is to end when a look finds nothing.
  bool is_over(time_point now) const noexcept { return now >= until_; }
  /// Ends polling. False if it was over already.
  bool end() noexcept;
  /// The pool is at its end.
  void close() noexcept { polling_.store(false); }

 private:
  const std::chrono::nanoseconds most_;
  const unsigned cpus_;
  std::atomic<bool> polling_{false};  // sequentially consistent: see pool_driver::watch()
  time_point until_{};
  bool spinning_ = false;  // polls also with nothing else to do
  bool found_ = false;     // a look has found replies since polling began
  spin_budget budget_;
};

}  // namespace shmpool::pool
