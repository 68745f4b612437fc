#include "worker/request_stream.hpp"

#include "process/clock.hpp"
#include "process/futex.hpp"
#include "wire/fd_passing.hpp"
#include "worker/reply_stream.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <span>

namespace shmpool::worker {

namespace {

/// Tells the CPU that this is a spin loop.
void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

bool request_stream::next(wire::frame& out) {
  for (;;) {
    wire::frame_reader& from = on_socket_ ? from_socket_ : from_ring_;
    switch (from.next(out)) {
      case wire::frame_reader::status::frame: break;
      case wire::frame_reader::status::incomplete:
        if (on_socket_ || !take_from_ring()) return false;
        continue;
      case wire::frame_reader::status::malformed: ::_exit(125);  // the parent makes none: this process is damaged
    }
    switch (out.header.type) {
      case wire::frame_type::by_socket: on_socket_ = true; break;
      case wire::frame_type::by_ring: on_socket_ = false; break;
      case wire::frame_type::wake: break;
      default: return true;
    }
  }
}

bool request_stream::ring_has_frames() const noexcept {
  // Acquire: whoever sees the end sees the frames.
  return page_.frames_end.load(std::memory_order_acquire) != taken_;
}

bool request_stream::take_from_ring() {
  const std::uint64_t end = page_.frames_end.load(std::memory_order_acquire);
  if (end == taken_) return false;
  if (end - taken_ > wire::request_ring_bytes) ::_exit(125);  // the parent does not do that: this page is damaged
  const auto size = static_cast<std::size_t>(end - taken_);
  const std::span<std::byte> room = from_ring_.prepare(size);
  const std::size_t at = taken_ % wire::request_ring_bytes;
  const std::size_t first = std::min(size, wire::request_ring_bytes - at);
  std::memcpy(room.data(), page_.request_ring + at, first);
  std::memcpy(room.data() + first, page_.request_ring, size - first);
  from_ring_.commit(size);
  taken_ = end;
  // Release: the parent writes to the place again only when the copy is complete.
  page_.frames_taken.store(taken_, std::memory_order_release);
  return true;
}

request_stream::arrival request_stream::receive() {
  if (!on_socket_) {
    if (poll_ring()) return arrival::bytes;
    // Release: a parent that sees that this worker sleeps sees where.
    page_.sleeps.store(++sleeps_, std::memory_order_release);
    // Either this thread sees the new end, or the parent sees that it has to wake this worker.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (ring_has_frames()) {
      page_.sleeps.store(++sleeps_, std::memory_order_relaxed);
      return arrival::bytes;
    }
    if (at_ring_) {
      const std::optional<arrival> end = sleep_at_ring();
      page_.sleeps.store(++sleeps_, std::memory_order_relaxed);
      if (end) return *end;
      sleep_at_socket();
      return receive();
    }
  }
  ssize_t received = 0;
  for (shortage_pause pause; (received = receive_once(0)) < 0 && received != -EAGAIN;) {
    if (!pause.passes(static_cast<int>(-received))) break;
  }
  if (!on_socket_) page_.sleeps.store(++sleeps_, std::memory_order_relaxed);
  // What is left is for when the ring says so.
  wire::frame dropped;
  while (!on_socket_ && from_socket_.next_type() == wire::frame_type::wake) (void)from_socket_.next(dropped);
  return received > 0 ? arrival::bytes : received == -EAGAIN ? arrival::nothing : arrival::end;
}

std::optional<request_stream::arrival> request_stream::sleep_at_ring() {
  const bool has_limit = most_ != most_.zero();
  std::chrono::nanoseconds left = most_;
  for (;;) {
    const auto begin = has_limit ? monotonic_clock::now() : monotonic_clock::time_point();
    const auto nap = has_limit ? std::min(left, look_for_end_) : look_for_end_;
    const int error = futex::wait(page_.frames_end, taken_, nap);
    if (ring_has_frames()) return arrival::bytes;
    if (error != 0 && error != EAGAIN && error != EINTR && error != ETIMEDOUT) return std::nullopt;
    if (error == ETIMEDOUT && parent_is_gone()) return arrival::end;
    // The kernel has waited for all of it, whatever the clock says: somebody may have stopped that.
    if (has_limit) left -= error == ETIMEDOUT ? nap : std::max(monotonic_clock::now() - begin, nap.zero());
    if (has_limit && left <= left.zero()) return arrival::nothing;
  }
}

bool request_stream::parent_is_gone() const noexcept {
  pollfd end{socket_, POLLRDHUP, 0};  // whatever was sent before
  return ::poll(&end, 1, 0) == 1 && (end.revents & (POLLRDHUP | POLLHUP)) != 0;
}

void request_stream::wait_at_most(std::chrono::microseconds time) noexcept {
  most_ = time;
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  timeval limit{};
  limit.tv_sec = static_cast<time_t>(seconds.count());
  limit.tv_usec = static_cast<suseconds_t>((time - seconds).count());
  // This cannot fail for a socket; if it did, the worker would merely never leave when idle.
  (void)::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

/// Bytes received, 0 at the end of the stream, or a negative errno.
ssize_t request_stream::receive_once(int flags) {
  bool dropped = false;
  const ssize_t received = wire::receive_with_fds(socket_, from_socket_.prepare(), descriptors_, flags, &dropped);
  // A message carries at most one descriptor. Its task has to do without; an empty entry keeps the order for others.
  if (dropped) descriptors_.emplace_back();
  if (received > 0) from_socket_.commit(static_cast<std::size_t>(received));
  return received;
}

bool request_stream::poll_ring() {
  if (ring_has_frames()) return true;
  const std::chrono::nanoseconds most(page_.spin_ns.load(std::memory_order_relaxed));
  if (most == most.zero() || !placement_.is_apart(page_.parent_cpu.load(std::memory_order_relaxed))) return false;
  if (!spin_.begin()) return false;
  const auto until = monotonic_clock::now() + most;
  std::int64_t looks = most.count() / 100;  // more than the time allows, unless the clock stands still
  do {
    for (int i = 0; i != 64; ++i) {
      if (ring_has_frames()) {
        spin_.found();
        return true;
      }
      pause();
    }
  } while (--looks > 0 && monotonic_clock::now() < until);
  spin_.missed();
  return false;
}

unique_fd request_stream::take_descriptor() {
  if (descriptors_.empty()) ::_exit(125);
  unique_fd first = std::move(descriptors_.front());
  descriptors_.erase(descriptors_.begin());
  return first;
}

}  // namespace shmpool::worker
