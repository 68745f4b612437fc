// The part of a pool that waits: its completion queue, the bell of its workers, one timer for all its deadlines, and
// the operations that the kernel refuses for the moment; a kernel_patience decides when to try these again, and when to
// give up.
//
// Thread safety: none; the engine's lock guards it.
#pragma once

#include "loop/completion_queue.hpp"
#include "pool/doorbell.hpp"
#include "pool/kernel_patience.hpp"
#include "process/clock.hpp"
#include "process/unique_fd.hpp"

#include <shmpool/options.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace shmpool::pool {

class pool_loop {
 public:
  using time_point = monotonic_clock::time_point;

  /// How long the kernel may go on refusing operations that should work before the pool is given up.
  static constexpr std::chrono::seconds patience = kernel_patience::limit;

  /// Throws std::system_error that names the call.
  explicit pool_loop(backend which);

  /// Readable whenever the queue may have something to reap, or the bell was rung.
  int descriptor() const noexcept { return both_ ? both_.get() : queue_->descriptor(); }
  pool::doorbell& bell() noexcept { return bell_; }
  loop::completion_queue& queue() noexcept { return *queue_; }
  const loop::completion_queue& queue() const noexcept { return *queue_; }

  /// Submits the started operations. The next call retries those that the kernel refuses.
  void submit(time_point now);
  /// How long the caller should wait before the next call, even if the descriptor is not readable; zero if the kernel
  /// has refused nothing.
  std::chrono::milliseconds retry_after(time_point now) const noexcept { return refusals_.pause(now); }
  /// The error, once the kernel has refused for longer than `patience`; from then on the pool cannot wait for events.
  std::optional<std::string> given_up(time_point now);
  bool is_lost() const noexcept { return refusals_.is_given_up(); }
  /// True if the kernel has refused operations; it may still write into the buffers of pending ones.
  bool is_refused() const noexcept { return refusals_.is_refused(); }

  /// Keeps buffers that the kernel may write to until the queue is closed.
  void outlive(std::shared_ptr<void> buffers) { kept_.push_back(std::move(buffers)); }

  /// Makes the descriptor readable at `due`, at the latest. True if this has started an operation: call submit().
  bool wake_at(time_point due);
  /// Has wake_at() make the descriptor readable at once, until heard().
  void wake_now() noexcept { wanted_ = true; }
  /// drain() was called: this is what wake_now() asked for.
  void heard() noexcept { wanted_ = false; }
  bool is_timer(const loop::operation& op) const noexcept { return &op == &watch_; }
  /// The wait for the timer was reaped.
  void expired() noexcept;
  /// True, once, if the time of the timer has come.
  bool is_due(time_point now) noexcept;

 private:
  std::vector<std::shared_ptr<void>> kept_;  // declared before the queue, hence destroyed after it
  std::unique_ptr<loop::completion_queue> queue_;
  doorbell bell_;
  unique_fd both_;  // an epoll instance that waits for queue and bell; empty without a bell
  unique_fd timer_;
  loop::operation watch_;
  time_point due_ = time_point::max();
  bool wanted_ = false;
  kernel_patience refusals_;  // of operations that were submitted
  std::error_code refusal_;   // the last answer to submit()
};

}  // namespace shmpool::pool
