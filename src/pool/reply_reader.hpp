// The parent's end of a worker's reply stream. Replies come through the socket, or from the ring: while the parent is
// awake, when the worker has rung for it, or after the worker has died. A reply may come both ways: its stream position
// shows that it was read already.
//
// Thread safety: none; the engine's lock guards it.
#pragma once

#include "wire/control_page.hpp"
#include "wire/frame.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace shmpool::pool {

class reply_reader {
 public:
  using status = wire::frame_reader::status;

  /// `page` is the worker's control memory, whose values are never trusted. Reading begins at stream position `first`.
  explicit reply_reader(wire::control_page& page, std::uint64_t first = 0) noexcept
      : page_(page), socket_at_(first), read_(first) {}

  /// Room for bytes from the socket.
  std::span<std::byte> prepare() { return socket_.prepare(); }
  void commit(std::size_t bytes) noexcept { socket_.commit(bytes); }

  /// Copies the ring's replies that next() has not returned yet, for next() to return. False if none can be
  /// taken.
  bool take_from_ring();
  /// True if the ring had replies at the last look that could not be taken because earlier ones are still in the
  /// socket: a worker that was polled at that time may have sent only the earlier ones.
  bool behind() const noexcept { return read_ < published_; }
  /// True if more had come through the socket at the last look than the worker had published: later replies in the ring
  /// would not be found.
  bool ahead() const noexcept { return read_ > published_; }

  /// The next frame of the stream, once.
  status next(wire::frame& out);
  const char* why() const noexcept { return why_; }

 private:
  status malformed(const char* why) noexcept {
    why_ = why;
    return status::malformed;
  }

  wire::control_page& page_;
  wire::frame_reader socket_, ring_;
  std::uint64_t socket_at_;      // stream position of the next frame from the socket
  std::uint64_t read_;           // stream position up to which next() has returned the stream
  std::uint64_t published_ = 0;  // end of the ring at the last look
  const char* why_ = "";
};

}  // namespace shmpool::pool
