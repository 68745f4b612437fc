#include "pool/request_ring.hpp"

#include "process/assert.hpp"
#include "process/futex.hpp"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

namespace shmpool::pool {

/// Bytes that may be written without touching any that the worker has not taken.
std::size_t request_ring::room() noexcept {
  // Acquire: the worker has copied what it says it has taken. A worker that lies overwrites its own frames.
  const std::uint64_t taken = page_.frames_taken.load(std::memory_order_acquire);
  if (taken > taken_ && taken <= published_) taken_ = taken;
  return wire::request_ring_bytes - static_cast<std::size_t>(written_ - taken_);
}

template <std::size_t Extent>
void request_ring::write(std::span<const std::byte, Extent> bytes) noexcept {
  const std::size_t at = written_ % wire::request_ring_bytes;
  written_ += bytes.size();
  const std::size_t until_end = wire::request_ring_bytes - at;
  if (bytes.size() <= until_end) {
    std::memcpy(page_.request_ring + at, bytes.data(), bytes.size());
  } else {
    std::memcpy(page_.request_ring + at, bytes.data(), until_end);
    std::memcpy(page_.request_ring, bytes.data() + until_end, bytes.size() - until_end);
  }
}

bool request_ring::put(wire::frame_header header, std::span<const wire::segment_ref> segments,
                       std::span<const std::byte> body) noexcept {
  const std::size_t size = sizeof header + segments.size_bytes() + body.size();
  if (size + sizeof header > wire::request_ring_bytes) return false;
  if (size + sizeof header > wire::request_ring_bytes - (written_ - taken_) && size + sizeof header > room()) {
    return false;
  }
  header.segments = static_cast<std::uint32_t>(segments.size());
  header.body = static_cast<std::uint32_t>(body.size());
  write(std::as_bytes(std::span<const wire::frame_header, 1>(&header, 1)));
  if (!segments.empty()) write(std::as_bytes(segments));
  if (!body.empty()) write(body);
  return true;
}

void request_ring::put_switch() noexcept {
  wire::frame_header header;
  header.type = wire::frame_type::by_socket;
  SHMPOOL_ASSERT(written_ - taken_ + sizeof header <= wire::request_ring_bytes);
  write(std::as_bytes(std::span<const wire::frame_header, 1>(&header, 1)));
}

bool request_ring::publish() noexcept {
  if (std::exchange(published_, written_) == written_) return false;
  // A hint. On most systems the call reads memory.
  if (const auto cpu = static_cast<std::uint32_t>(::sched_getcpu()); cpu != cpu_) {
    cpu_ = cpu;
    page_.parent_cpu.store(cpu, std::memory_order_relaxed);
  }
  // Release: a worker that sees the end sees the frames, and the slots of their tasks.
  page_.frames_end.store(written_, std::memory_order_release);
  // Either this thread sees that the worker sleeps, or the worker's last look before it sleeps sees the new end.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const std::uint32_t sleeps = page_.sleeps.load(std::memory_order_acquire);
  if (sleeps % 2 == 0) return false;
  // Each time: a futex that is woken before the worker sleeps there, or for frames that it has taken meanwhile, leaves
  // nothing behind that would end this sleep. A frame on the socket stays until it is read.
  if (page_.sleeps_at_socket.load(std::memory_order_relaxed) == 0 && futex::wake(page_.frames_end) == 0) return false;
  return std::exchange(woken_, sleeps) != sleeps;
}

}  // namespace shmpool::pool
