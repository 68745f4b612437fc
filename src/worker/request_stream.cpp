#include "worker/request_stream.hpp"

#include "process/clock.hpp"
#include "wire/fd_passing.hpp"
#include "worker/reply_stream.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>

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
  switch (reader_.next(out)) {
    case wire::frame_reader::status::frame: return true;
    case wire::frame_reader::status::incomplete: return false;
    case wire::frame_reader::status::malformed: break;
  }
  ::_exit(125);  // the parent does not make such frames: this process is damaged
}

request_stream::arrival request_stream::receive() {
  if (receive_soon() > 0) return arrival::bytes;
  ssize_t received = 0;
  for (shortage_pause pause; (received = receive_once(0)) < 0;) {
    if (received == -EAGAIN) return arrival::nothing;
    if (!pause.passes(static_cast<int>(-received))) break;
  }
  return received > 0 ? arrival::bytes : arrival::end;
}

/// Bytes received, 0 at the end of the stream, or a negative errno.
ssize_t request_stream::receive_once(int flags) {
  bool dropped = false;
  const ssize_t received = wire::receive_with_fds(socket_, reader_.prepare(), descriptors_, flags, &dropped);
  // A message carries at most one descriptor. Its task has to do without; an empty entry keeps the order for others.
  if (dropped) descriptors_.emplace_back();
  if (received > 0) {
    taken_in_ += static_cast<std::uint64_t>(received);
    reader_.commit(static_cast<std::size_t>(received));
  }
  return received;
}

/// Polls for as long as the parent allows, since a wake-up takes longer than most waits. A result that is not positive
/// means no bytes yet, or an error.
ssize_t request_stream::receive_soon() {
  const std::chrono::nanoseconds most(page_.spin_ns.load(std::memory_order_relaxed));
  if (most == most.zero() || !spin_.begin()) return 0;
  const auto until = monotonic_clock::now() + most;
  std::int64_t looks = most.count() / 100;  // more than the time allows, unless the clock stands still
  do {
    for (int i = 0; i != 64; ++i) {
      if (page_.frames_end.load(std::memory_order_acquire) == taken_in_) {
        pause();
        continue;
      }
      const ssize_t received = receive_once(MSG_DONTWAIT);
      if (received == -EAGAIN) continue;  // announced, but not sent yet
      if (received > 0) spin_.found();
      return received;
    }
  } while (--looks > 0 && monotonic_clock::now() < until);
  spin_.missed();
  return 0;
}

unique_fd request_stream::take_descriptor() {
  if (descriptors_.empty()) ::_exit(125);
  unique_fd first = std::move(descriptors_.front());
  descriptors_.erase(descriptors_.begin());
  return first;
}

}  // namespace shmpool::worker
