// The completion queue on io_uring. Every operation is one request in the ring; one io_uring_enter hands over all that
// was started since the last one.
//
// Thread safety: none; the engine's lock serialises all calls. They may come from different threads, and a thread that
// submitted may exit at any time. A thread that submitted is interrupted briefly when one of its requests completes, so
// system calls that signals interrupt for good (epoll_wait, semop, and so on) may return EINTR in it.
#pragma once

#include <liburing.h>

#include "loop/completion_queue.hpp"
#include "loop/operation_list.hpp"
#include "process/fork_mark.hpp"

namespace shmpool::loop {

class uring_queue final : public completion_queue {
 public:
  /// Entries of the completion ring: room for a receive, a send and a death watch for each of 4096 workers, in 256 KiB.
  /// More operations may be started than that; the rest wait outside the ring.
  static constexpr unsigned default_completions = 16384;
  static constexpr unsigned default_submissions = 256;

  /// Throws std::system_error if no ring can be set up. Sizes are rounded up to powers of two by the kernel;
  /// `completions` is at least twice `submissions`.
  explicit uring_queue(unsigned submissions = default_submissions, unsigned completions = default_completions);
  ~uring_queue() override;

  int descriptor() const noexcept override { return ring_.get()->ring_fd; }
  const char* name() const noexcept override { return "io_uring"; }
  void start(operation& op) override;
  void cancel(operation& op) override;
  std::error_code submit() override;
  operation* reap() override;
  void cancel_all() noexcept override;

  /// How many requests may be in the ring at once, those that cancel others not counted.
  unsigned capacity() const noexcept { return capacity_; }

 private:
  /// The ring, its mappings and its descriptor.
  class ring_owner {
   public:
    ring_owner(unsigned submissions, unsigned completions);
    ring_owner(const ring_owner&) = delete;
    ring_owner& operator=(const ring_owner&) = delete;
    ~ring_owner();
    io_uring* get() noexcept { return &ring_; }
    const io_uring* get() const noexcept { return &ring_; }
    bool is_inherited() const noexcept;

   private:
    io_uring ring_{};
    fork_mark made_here_;
  };

  std::error_code hand_over(unsigned& handed);
  std::error_code enter();
  io_uring_sqe* next_sqe() noexcept;
  void prepare(operation& op, io_uring_sqe& sqe) noexcept;
  void prepare_requests(unsigned& handed) noexcept;
  operation* settle(std::uint64_t tag, int result);
  operation* settle_send(operation& op, int result);
  operation* finish(operation& op, int result) noexcept;
  operation* try_again(operation& op) noexcept;
  operation* park(operation& op) noexcept;
  static void forget(operation_list& list) noexcept;
  void end_outside_ring(operation& op, int result) noexcept;

  ring_owner ring_;
  unsigned capacity_;          // bound of in_ring_ for operations; the rest of the completion ring is for cancellations
  unsigned total_;             // bound of in_ring_ for everything
  unsigned in_ring_ = 0;       // requests prepared whose completion has not been consumed
  bool wake_in_ring_ = false;  // one of them is the no-op that makes the descriptor readable
  bool retry_ = false;         // there is something for reap() to hand over
  bool missed_cancel_ = false;  // a cancellation did not find its target
  bool cancel_any_works_ = true;
  // cancel_all() ended before the kernel had given everything back: later completions belong to nobody.
  bool abandoned_ = false;

  // Every pending operation is in exactly one of these.
  operation_list waiting_;     // not in the ring
  operation_list armed_;       // in the ring
  operation_list cancel_due_;  // in the ring, its cancellation is not
  operation_list cancelled_;   // in the ring, and so was its cancellation
  operation_list ended_;       // ended without the ring
};

}  // namespace shmpool::loop
