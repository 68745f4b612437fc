// The part of a pool that waits: its completion queue, the one timer that stands for all its deadlines, and what the
// kernel has refused for the moment.
//
// Thread safety: none; the engine's lock guards it.
#pragma once

#include "loop/completion_queue.hpp"
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

  /// How long the kernel may go on refusing what it can be expected to do before the pool is given up.
  static constexpr std::chrono::seconds patience{2};

  /// Throws std::system_error that names the call.
  explicit pool_loop(backend which);

  loop::completion_queue& queue() noexcept { return *queue_; }
  const loop::completion_queue& queue() const noexcept { return *queue_; }

  /// Hands over what was started. What the kernel refuses is kept, and tried again with the next call.
  void submit();
  /// How long the caller should wait before it calls again, whatever the descriptor says; zero if nothing was refused.
  std::chrono::milliseconds retry_after(time_point now) const noexcept;
  /// The error, once it has been refused for longer than `patience`: then nothing can be waited for any more.
  std::optional<std::string> given_up(time_point now);
  bool is_lost() const noexcept { return lost_; }
  /// The kernel has refused something and may yet write into the buffers of what is pending.
  bool is_refused() const noexcept { return lost_ || refused_since_.has_value(); }

  /// Keeps what the kernel may write to until it has closed the queue.
  void outlive(std::shared_ptr<void> buffers) { kept_.push_back(std::move(buffers)); }

  /// Makes the descriptor readable at this time, at the latest. True if it has begun to wait for that: the kernel has
  /// yet to be told.
  bool wake_at(time_point due);
  /// The same at once, and for good until heard().
  void wake_now() noexcept { wanted_ = true; }
  /// drain() is here: what wake_now() asked for is done.
  void heard() noexcept { wanted_ = false; }
  bool is_timer(const loop::operation& op) const noexcept { return &op == &watch_; }
  /// The wait for the timer was reaped.
  void expired() noexcept;
  /// True, once, if what it waited for has come.
  bool is_due(time_point now) noexcept;

 private:
  std::vector<std::shared_ptr<void>> kept_;  // before the queue, so that they go after it
  std::unique_ptr<loop::completion_queue> queue_;
  unique_fd timer_;
  loop::operation watch_;
  time_point due_ = time_point::max();
  bool wanted_ = false;
  std::optional<time_point> refused_since_;  // it has something that the kernel would not take
  std::error_code refusal_;
  bool lost_ = false;  // the kernel never did
};

}  // namespace shmpool::pool
