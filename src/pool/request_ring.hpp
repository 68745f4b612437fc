// The parent's end of the ring through which one worker gets its frames. Frames are put behind each other and become
// visible together. A worker that is awake needs no call of the kernel to get them, and the parent none to send them.
// docs/adr/0015-requests-in-a-ring.md.
//
// Thread safety: none; the engine's lock guards it. The ring is shared with the worker, see wire/control_page.
#pragma once

#include "wire/control_page.hpp"
#include "wire/frame.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace shmpool::pool {

class request_ring {
 public:
  explicit request_ring(wire::control_page& page) noexcept : page_(page) {}

  /// Puts a frame behind the others. False if there is no room for it; room for one put_switch() always remains.
  bool put(wire::frame_header header, std::span<const wire::segment_ref> segments,
           std::span<const std::byte> body) noexcept;
  /// Puts the frame that tells the worker to go on reading from the socket. The next put() is for when it has been told
  /// on the socket to come back.
  void put_switch() noexcept;
  /// True if half of the ring is free: worth coming back to.
  bool is_roomy() noexcept { return room() >= wire::request_ring_bytes / 2; }

  bool is_published() const noexcept { return written_ == published_; }
  /// Makes all frames visible, and wakes a worker that sleeps, or is about to. True if that needs the frame `wake` on
  /// its socket: once for each sleep.
  bool publish() noexcept;

 private:
  std::size_t room() noexcept;
  template <std::size_t Extent>
  void write(std::span<const std::byte, Extent> bytes) noexcept;

  wire::control_page& page_;
  std::uint64_t written_ = 0, published_ = 0;  // stream positions
  std::uint64_t taken_ = 0;                    // what the worker has taken, as far as that makes sense
  std::uint32_t woken_ = 0;                    // the sleep for which it was last said that `wake` is needed
  std::uint32_t cpu_ = 0;                      // as control_page::parent_cpu
};

}  // namespace shmpool::pool
