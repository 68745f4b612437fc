// The worker's outgoing stream. Replies are written to the ring in the control memory first and sent from there, so
// that a reply that was finished is not lost when the next task crashes: the parent takes what had not been sent from
// the ring. So it does while it is awake, and then nothing need be sent. reply_reader is the other end.
//
// Thread safety: none; the worker's lock guards it.
#pragma once

#include "process/fork_mark.hpp"
#include "wire/control_page.hpp"
#include "wire/frame.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace shmpool::worker {

/// Of one transfer: waits a moment where the kernel was short of memory for it, which passes, or not.
class shortage_pause {
 public:
  /// False if the error is another one, or it has lasted for a quarter of a second.
  bool passes(int error) noexcept;

 private:
  unsigned pauses_ = 0;
};

class reply_stream {
 public:
  reply_stream(int socket, wire::control_page& page) noexcept : socket_(socket), page_(page) {}

  /// Adds a frame; sends what is there first if it does not fit. In a copy of the worker it leaves the process: only
  /// the worker speaks for itself.
  void append(const wire::frame_header& header, std::span<const wire::segment_ref> segments,
              std::span<const std::byte> body);
  /// Has memory for a frame of that size. Throws std::bad_alloc here, where it can still be told.
  void make_room(std::size_t body, std::size_t segments) {
    scratch_.reserve(sizeof(wire::frame_header) + segments * sizeof(wire::segment_ref) + body);
  }
  /// Makes the parent see everything: sends it, unless the parent looks at the ring by itself. Blocks until the kernel
  /// has taken it. Leaves the process if the parent is gone.
  void flush() noexcept;
  /// True if there is nothing that the parent has to be sent yet.
  bool empty() const noexcept { return sent_ == end_; }

 private:
  /// Sends everything that the parent has not taken.
  void send_rest() noexcept;
  /// Takes note of what the parent has taken from the ring; before anything is sent then, it has to be told where that
  /// begins.
  void skip_taken() noexcept;
  void send_all(std::span<const std::byte> bytes) noexcept;

  fork_mark original_;
  int socket_;
  wire::control_page& page_;
  std::uint64_t end_ = 0;   // stream position behind the last complete frame
  std::uint64_t sent_ = 0;  // stream position behind the last byte that was sent or taken
  std::uint64_t told_ = 0;  // where the parent believes sent_ to be
  std::vector<std::byte> scratch_;
};

}  // namespace shmpool::worker
