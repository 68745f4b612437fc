#include "pool/reply_reader.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace shmpool::pool {

bool reply_reader::take_from_ring() {
  const std::uint64_t end = page_.reply_end.load(std::memory_order_acquire);
  published_ = end;
  if (end <= read_ || end - read_ > wire::reply_ring_bytes || ring_.pending() != 0) return false;
  const auto size = static_cast<std::size_t>(end - read_);
  const auto room = ring_.prepare(size);
  const std::size_t at = read_ % wire::reply_ring_bytes;
  const std::size_t first = std::min(size, wire::reply_ring_bytes - at);
  std::memcpy(room.data(), page_.reply_ring + at, first);
  std::memcpy(room.data() + first, page_.reply_ring, size - first);
  // Meanwhile the worker may have sent these replies and reused their place: it advances reply_begin before that.
  std::atomic_thread_fence(std::memory_order_acquire);
  if (page_.reply_begin.load(std::memory_order_relaxed) > read_) return false;  // then they come through the socket
  ring_.commit(size);
  page_.reply_taken.store(end, std::memory_order_release);
  return true;
}

reply_reader::status reply_reader::next(wire::frame& out) {
  if (ring_.pending() != 0) {
    switch (ring_.next(out)) {
      case status::frame: read_ += out.size(); return status::frame;
      case status::incomplete: return malformed("its reply ring ends within a frame");
      case status::malformed: return malformed(ring_.why());
    }
  }
  for (;;) {
    const status found = socket_.next(out);
    if (found == status::malformed) return malformed(socket_.why());
    if (found == status::incomplete) return found;
    if (out.header.type == wire::frame_type::skipped) {
      if (out.header.value < socket_at_ || out.header.value > read_)
        return malformed("it skipped replies that were not taken");
      socket_at_ = out.header.value;
      continue;
    }
    const std::uint64_t begin = socket_at_;
    socket_at_ += out.size();
    if (begin == read_) {
      read_ = socket_at_;
      return status::frame;
    }
    // Skip a frame that was read from the ring already. A read position inside this frame is malformed.
    if (socket_at_ > read_) return malformed("its socket and its reply ring disagree");
  }
}

}  // namespace shmpool::pool
