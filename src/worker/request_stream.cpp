#include "worker/request_stream.hpp"

#include "process/clock.hpp"
#include "wire/fd_passing.hpp"
#include "worker/reply_stream.hpp"

#include <sys/socket.h>
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
    page_.sleeps.store(++sleeps_, std::memory_order_relaxed);
    // Either this thread sees the new end, or the parent sees that it has to wake this worker.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (ring_has_frames()) {
      page_.sleeps.store(++sleeps_, std::memory_order_relaxed);
      return arrival::bytes;
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
