// The worker's incoming stream of frames. They come through the ring in the control memory, or through the socket where
// the ring has no room for them or a descriptor comes with them; frames in either tell which it is from there on. A
// worker that finds none polls for a moment, if the parent allows it, and then sleeps at the ring, or at the socket
// where a futex cannot be used. reply_stream is the other direction. docs/adr/0015-requests-in-a-ring.md,
// docs/adr/0016-doorbells.md.
//
// Thread safety: none; one thread at a time reads it.
#pragma once

#include "process/spin_budget.hpp"
#include "process/unique_fd.hpp"
#include "wire/control_page.hpp"
#include "wire/frame.hpp"
#include "worker/placement.hpp"

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace shmpool::worker {

class request_stream {
 public:
  /// The result of waiting.
  enum class arrival : std::uint8_t {
    bytes,    ///< next() may return a frame
    nothing,  ///< the time of wait_at_most() is over
    end,      ///< the parent has closed its end
  };

  /// A worker that sleeps at the ring looks every `look_for_end` whether the parent still exists: the fork server, or
  /// the kernel, should have killed this worker long before. Throws std::bad_alloc; what is taken from the ring later
  /// has its memory.
  request_stream(int socket, wire::control_page& page, std::chrono::nanoseconds look_for_end = std::chrono::seconds(10))
      : socket_(socket), page_(page), look_for_end_(look_for_end) {
    (void)from_ring_.prepare(wire::request_ring_bytes);
    if (page.wakes_by_futex.load(std::memory_order_relaxed) == 0) sleep_at_socket();
  }

  /// How long receive() waits, up to a hundred years; zero: for ever.
  void wait_at_most(std::chrono::microseconds time) noexcept;

  /// The next frame that has come already. A malformed frame ends the process: the parent makes none.
  bool next(wire::frame& out);
  /// True if part of a frame has come, or a frame whose turn has not.
  bool is_within_frame() const noexcept { return from_socket_.pending() != 0; }
  /// Waits for more.
  arrival receive();

  /// The oldest descriptor that was not taken, an empty one if this process had no room for it. Leaves the process if
  /// no descriptor has come.
  unique_fd take_descriptor();
  /// Gives a descriptor back, to be taken next.
  void return_descriptor(unique_fd descriptor) { descriptors_.insert(descriptors_.begin(), std::move(descriptor)); }

 private:
  /// Copies frames out of the ring. False if there are none.
  bool take_from_ring();
  bool ring_has_frames() const noexcept;
  ssize_t receive_once(int flags);
  /// Sleeps until the ring has frames. Nothing if the kernel does not let a thread sleep there.
  std::optional<arrival> sleep_at_ring();
  void sleep_at_socket() noexcept {
    at_ring_ = false;
    page_.sleeps_at_socket.store(1, std::memory_order_relaxed);
  }
  bool parent_is_gone() const noexcept;
  /// Polls the ring for as long as the parent allows, since a wake-up takes longer than most waits. True if it has
  /// frames.
  bool poll_ring();

  int socket_;
  wire::control_page& page_;
  const std::chrono::nanoseconds look_for_end_;
  wire::frame_reader from_ring_, from_socket_;
  bool on_socket_ = false;    // the next frame comes on the socket
  std::uint64_t taken_ = 0;   // bytes copied out of the ring
  std::uint32_t sleeps_ = 0;  // as control_page::sleeps
  bool at_ring_ = true;       // sleeps there, woken by a futex
  std::chrono::microseconds most_{};
  spin_budget spin_;
  placement placement_;
  std::vector<unique_fd> descriptors_;  // received, in stream order, not yet claimed by a frame
};

}  // namespace shmpool::worker
