// The completion queue on io_uring: preparing requests, handing them over, and what each completion means.

#include "loop/uring_queue.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <string>
#include <utility>

#include "loop/operation_state.hpp"
#include "process/clock.hpp"

namespace shmpool::loop {
namespace {

// The user_data of requests that are no operation; an operation's is its address.
constexpr std::uint64_t cancel_tag = 0;
constexpr std::uint64_t cancel_any_tag = 1;
constexpr std::uint64_t wake_tag = 2;

constexpr std::size_t largest_transfer = std::size_t{1} << 30;

std::uint64_t tag_of(const operation& op) noexcept {
  return reinterpret_cast<std::uintptr_t>(&op);
}

unsigned transfer_size(std::size_t size) noexcept {
  return static_cast<unsigned>(std::min(size, largest_transfer));
}

// One attempt in this thread, which does not block. Bytes moved, or a negative errno.
int transfer_now(operation& op) noexcept {
  const ssize_t moved =
      op.what == operation::kind::receive
          ? ::recv(op.fd, op.data, transfer_size(op.size), MSG_DONTWAIT)
          : ::send(op.fd, op.data + op.done, transfer_size(op.size - op.done), MSG_NOSIGNAL | MSG_DONTWAIT);
  return moved < 0 ? -errno : static_cast<int>(moved);
}

std::system_error setup_error(int error, const char* call) {
  std::string text = "io_uring cannot be used";
  if (error == EPERM || error == EACCES || error == ENOSYS) {
    text +=
        " (choose backend::automatic or backend::epoll, or allow the io_uring system calls in the container's seccomp "
        "profile and in /proc/sys/kernel/io_uring_disabled)";
  } else if (error == ENOMEM) {
    text += " (choose backend::automatic or backend::epoll, or raise the limit of locked memory, RLIMIT_MEMLOCK)";
  } else {
    text += " (choose backend::automatic or backend::epoll)";
  }
  return std::system_error{error, std::generic_category(), text + ": " + call};
}

}  // namespace

// The ring is set up without COOP_TASKRUN. With it, a completion waits until the thread that submitted the request next
// enters the kernel, and nobody tells a thread that waits for the descriptor: if the submitter computes meanwhile, that
// is the next timer tick. Measured on two CPUs at 250 Hz, from the peer's write to the waiter's wake-up, while the
// submitter spins: 1.9 ms with the flag, 57 us without. Any thread may submit here, and user code runs after it.
// TASKRUN_FLAG is refused without COOP_TASKRUN, and not needed: no completion waits for us to enter the kernel.
// SINGLE_ISSUER and DEFER_TASKRUN are out because threads change; SQPOLL because it burns a CPU.
uring_queue::ring_owner::ring_owner(unsigned submissions, unsigned completions) {
  io_uring_params params{};
  params.flags = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
  params.cq_entries = completions;
  if (const int error = io_uring_queue_init_params(submissions, &ring_, &params); error < 0) {
    throw setup_error(-error, "io_uring_queue_init");
  }
  if (const int error = io_uring_ring_dontfork(&ring_); error < 0) {
    io_uring_queue_exit(&ring_);
    throw setup_error(-error, "io_uring_ring_dontfork");
  }
}

uring_queue::ring_owner::~ring_owner() {
  // A forked child has the descriptor but not the mappings; the memory at their addresses there is not ours.
  if (is_inherited()) {
    ::close(ring_.ring_fd);
  } else {
    io_uring_queue_exit(&ring_);
  }
}

bool uring_queue::ring_owner::is_inherited() const noexcept {
  return made_here_.inherited_for_certain();
}

uring_queue::uring_queue(unsigned submissions, unsigned completions)
    : ring_(submissions, completions),
      capacity_(*ring_.get()->cq.kring_entries - *ring_.get()->sq.kring_entries),
      total_(*ring_.get()->cq.kring_entries) {
}

uring_queue::~uring_queue() {
  cancel_all();
}

void uring_queue::start(operation& op) {
  set_started(op);
  if (op.what == operation::kind::send && op.size > INT_MAX) {
    end_outside_ring(op, -EINVAL);
  } else {
    waiting_.push_back(op);
  }
}

void uring_queue::cancel(operation& op) {
  if (!op.pending || op.cancelling) return;
  op.cancelling = true;
  switch (op.where) {
    case operation::place::waiting:
      operation_list::unlink(op);
      end_outside_ring(op, -ECANCELED);
      break;
    case operation::place::armed:
      operation_list::unlink(op);
      cancel_due_.push_back(op);
      retry_ = true;
      break;
    case operation::place::ended:
    case operation::place::nowhere: break;
  }
}

std::error_code uring_queue::submit() {
  if (!retry_ && waiting_.empty() && cancel_due_.empty() && ended_.empty()) return {};
  unsigned handed = 0;
  return hand_over(handed);
}

operation* uring_queue::reap() {
  for (;;) {
    if (operation* op = ended_.pop_front()) return give_back(*op);
    io_uring_cqe* cqe = nullptr;
    // Also enters the kernel, without waiting, if completions overflowed.
    if (io_uring_peek_cqe(ring_.get(), &cqe) == 0) {
      const std::uint64_t tag = cqe->user_data;
      const int result = cqe->res;
      io_uring_cqe_seen(ring_.get(), cqe);
      if (operation* op = settle(tag, result)) return op;
      continue;
    }
    // A cancellation misses a target that has just ended, which is fine, and on older kernels a target between two
    // attempts, which is not: its completion would never come. All ended operations have been reaped now, so send the
    // other cancellations again.
    if (missed_cancel_) {
      missed_cancel_ = false;
      retry_ = retry_ || !cancelled_.empty();
      cancel_due_.append(cancelled_);
    }
    unsigned handed = 0;
    if (!retry_ || hand_over(handed) || handed == 0) return nullptr;
  }
}

// Hands over cancellations, and operations as far as the ring has room, and says how many. Operations without room stay
// in their list with retry_ set: reap() makes room and comes back.
std::error_code uring_queue::hand_over(unsigned& handed) {
  retry_ = true;
  for (;;) {
    prepare_requests(handed);
    if (io_uring_sq_ready(ring_.get()) == 0) break;
    if (const std::error_code error = enter()) return error;
  }
  retry_ = !waiting_.empty() || !cancel_due_.empty();
  return {};
}

void uring_queue::prepare_requests(unsigned& handed) noexcept {
  io_uring_sqe* sqe = nullptr;
  // Operations that ended outside the ring leave no completion in it; a no-op makes the descriptor readable.
  if (!ended_.empty() && !wake_in_ring_ && (sqe = next_sqe())) {
    io_uring_prep_nop(sqe);
    sqe->user_data = wake_tag;
    wake_in_ring_ = true;
  }
  while (!cancel_due_.empty() && (sqe = next_sqe())) {
    operation& op = *cancel_due_.pop_front();
    io_uring_prep_cancel64(sqe, tag_of(op), 0);
    sqe->user_data = cancel_tag;
    cancelled_.push_back(op);
    ++handed;
  }
  while (!waiting_.empty() && in_ring_ < capacity_ && (sqe = next_sqe())) {
    operation& op = *waiting_.pop_front();
    prepare(op, *sqe);
    armed_.push_back(op);
    ++handed;
  }
}

// A free entry of the submission ring, counted as in the ring, or null.
io_uring_sqe* uring_queue::next_sqe() noexcept {
  if (in_ring_ == total_) return nullptr;
  io_uring_sqe* sqe = io_uring_get_sqe(ring_.get());
  if (sqe != nullptr) ++in_ring_;
  return sqe;
}

// Submits the prepared requests. The kernel says EAGAIN if short of memory, and EBUSY while completions overflow; the
// requests then stay where they are.
std::error_code uring_queue::enter() {
  for (;;) {
    const int submitted = io_uring_submit(ring_.get());
    if (submitted > 0) return {};
    if (submitted == -EINTR) continue;
    return {submitted == 0 ? EAGAIN : -submitted, std::generic_category()};
  }
}

void uring_queue::prepare(operation& op, io_uring_sqe& sqe) noexcept {
  op.where = operation::place::armed;
  if (op.what == operation::kind::poll_in || (op.parked && op.what == operation::kind::receive)) {
    io_uring_prep_poll_add(&sqe, op.fd, POLLIN);
  } else if (op.what == operation::kind::poll_out || op.parked) {
    io_uring_prep_poll_add(&sqe, op.fd, POLLOUT);
  } else if (op.what == operation::kind::receive) {
    io_uring_prep_recv(&sqe, op.fd, op.data, transfer_size(op.size), 0);
  } else {
    // MSG_WAITALL lets the kernel continue a short send by itself.
    io_uring_prep_send(&sqe, op.fd, op.data + op.done, transfer_size(op.size - op.done), MSG_NOSIGNAL | MSG_WAITALL);
  }
  sqe.user_data = tag_of(op);
}

// Takes in one completion. Returns the operation that it ends, or null.
operation* uring_queue::settle(std::uint64_t tag, int result) {
  --in_ring_;
  if (tag == cancel_tag) {
    missed_cancel_ = missed_cancel_ || result == -ENOENT;
    return nullptr;
  }
  if (tag == cancel_any_tag) {
    cancel_any_works_ = cancel_any_works_ && result != -EINVAL;
    return nullptr;
  }
  if (tag == wake_tag) {
    wake_in_ring_ = false;
    return nullptr;
  }
  if (abandoned_) return nullptr;
  operation& op = *reinterpret_cast<operation*>(static_cast<std::uintptr_t>(tag));
  operation_list::unlink(op);
  // Signs of an operation that did not happen. The kernel cancels the requests of a thread that exits; a request whose
  // readiness came up at that moment fails with EFAULT instead.
  const bool undone = result == -ECANCELED || result == -EINTR || result == -EAGAIN || result == -EFAULT;
  if (op.cancelling && (undone || op.parked)) return finish(op, -ECANCELED);
  if (std::exchange(op.parked, false)) return try_again(op);
  if (is_poll(op)) return undone ? try_again(op) : finish(op, result);
  // A bad buffer gives EFAULT as well, every time; only a call from this thread can tell.
  if (result == -EFAULT) result = transfer_now(op);
  if (result == -EAGAIN) return park(op);  // some kernels do not wait for descriptors in non-blocking mode
  if (result == -ECANCELED || result == -EINTR) return try_again(op);
  return op.what == operation::kind::receive ? finish(op, result) : settle_send(op, result);
}

operation* uring_queue::settle_send(operation& op, int result) {
  if (result < 0) return finish(op, result);
  op.done += static_cast<std::size_t>(result);
  if (op.done == op.size) return finish(op, static_cast<int>(op.size));
  if (result == 0) return finish(op, -EIO);  // no progress and no error: must not be tried for ever
  return op.cancelling ? finish(op, -ECANCELED) : try_again(op);
}

operation* uring_queue::finish(operation& op, int result) noexcept {
  op.result = result;
  return give_back(op);
}

operation* uring_queue::try_again(operation& op) noexcept {
  op.where = operation::place::waiting;
  waiting_.push_back(op);
  retry_ = true;
  return nullptr;
}

operation* uring_queue::park(operation& op) noexcept {
  op.parked = true;
  return try_again(op);
}

void uring_queue::forget(operation_list& list) noexcept {
  while (operation* op = list.pop_front()) give_back(*op);
}

void uring_queue::cancel_all() noexcept {
  forget(waiting_);
  forget(ended_);
  cancelled_.append(armed_);
  cancelled_.append(cancel_due_);
  if (ring_.is_inherited()) {
    forget(cancelled_);
    return;
  }
  while (operation* op = cancelled_.pop_front()) {
    op->cancelling = true;  // so that it is not tried again
    cancel_due_.push_back(*op);
  }
  // Requests that another thread submitted end in that thread, so their completions may take a moment. Asking again
  // covers kernels that miss a request between two attempts. Should the kernel still owe completions after two seconds,
  // the destructor closes the ring all the same: a pool's end must not hang.
  const auto deadline = monotonic_clock::now() + std::chrono::seconds(2);
  while (in_ring_ > 0 && monotonic_clock::now() < deadline) {
    if (cancel_any_works_) {
      if (io_uring_sqe* sqe = next_sqe()) {
        io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY);
        sqe->user_data = cancel_any_tag;
      }
    } else {
      cancel_due_.append(cancelled_);
      unsigned handed = 0;
      prepare_requests(handed);
    }
    const std::error_code error = enter();
    // If the process has been forbidden to enter the ring, only closing it is left, and the destructor does that.
    if (error && error != std::errc::resource_unavailable_try_again && error != std::errc::device_or_resource_busy)
      break;
    pollfd ready{.fd = descriptor(), .events = POLLIN, .revents = 0};
    ::poll(&ready, 1, 10);
    io_uring_cqe* cqe = nullptr;
    while (io_uring_peek_cqe(ring_.get(), &cqe) == 0) {
      const std::uint64_t tag = cqe->user_data;
      const int result = cqe->res;
      io_uring_cqe_seen(ring_.get(), cqe);
      settle(tag, result);
    }
  }
  abandoned_ = in_ring_ > 0;
  forget(cancel_due_);
  forget(cancelled_);
  missed_cancel_ = retry_ = false;
}

void uring_queue::end_outside_ring(operation& op, int result) noexcept {
  op.result = result;
  op.where = operation::place::ended;
  ended_.push_back(op);
}

}  // namespace shmpool::loop
