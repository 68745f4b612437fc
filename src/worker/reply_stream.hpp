// The worker's outgoing stream. The worker writes replies to the ring in the control memory first and sends them from
// there, so that a finished reply is not lost when the next task crashes: the parent takes unsent replies from the
// ring. It also does so in life: by itself while it is awake, and when the worker rings its bell while it sleeps. Then
// the worker sends nothing. reply_reader is the other end.
//
// Thread safety: none; the worker's lock guards it.
#pragma once

#include "process/fork_mark.hpp"
#include "process/unique_fd.hpp"
#include "wire/control_page.hpp"
#include "wire/frame.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace shmpool::worker {

/// For one transfer: waits a moment if the kernel was short of memory for it.
class shortage_pause {
 public:
  /// False if the error is another one, or the shortage has lasted for a quarter of a second.
  bool passes(int error) noexcept;

 private:
  unsigned pauses_ = 0;
};

class reply_stream {
 public:
  reply_stream(int socket, wire::control_page& page) noexcept : socket_(socket), page_(page) {}

  /// Adds a frame; if it does not fit, sends the earlier ones first. In a forked copy of the worker it leaves the
  /// process: only the worker itself may reply.
  void append(const wire::frame_header& header, std::span<const wire::segment_ref> segments,
              std::span<const std::byte> body);
  /// Reserves memory for a frame of that size. Throws std::bad_alloc while the worker can still report it.
  void make_room(std::size_t body, std::size_t segments) {
    scratch_.reserve(sizeof(wire::frame_header) + segments * sizeof(wire::segment_ref) + body);
  }
  /// The bell for a parent that sleeps, and the number to ring it with. Without one, replies are sent.
  void have_bell(unique_fd bell, std::uint32_t number) noexcept {
    bell_ = std::move(bell);
    number_ = number;
  }
  /// Makes all replies visible to the parent: rings the bell if it sleeps, or sends them if there is no bell. Blocks
  /// until the kernel has taken what is sent. Leaves the process if the parent is gone.
  void flush() noexcept;
  /// True if no reply remains to be sent.
  bool empty() const noexcept { return sent_ == end_; }

 private:
  /// Sends everything that the parent has not taken.
  void send_rest() noexcept;
  /// Skips replies that the parent has taken from the ring; a `skipped` frame must tell it the position of the next
  /// sent byte.
  void skip_taken() noexcept;
  void send_all(std::span<const std::byte> bytes) noexcept;
  /// False if the bell cannot be rung: it has no room, or there is none.
  bool ring() noexcept;

  fork_mark original_;
  int socket_;
  wire::control_page& page_;
  std::uint64_t end_ = 0;   // stream position behind the last complete frame
  std::uint64_t sent_ = 0;  // stream position behind the last byte that was sent or taken
  std::uint64_t told_ = 0;  // where the parent believes sent_ to be
  unique_fd bell_;
  std::uint32_t number_ = 0;
  std::uint64_t rung_ = 0;  // control_page::parent_sleeps when the bell was rung last
  std::vector<std::byte> scratch_;
};

}  // namespace shmpool::worker
