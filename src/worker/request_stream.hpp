// The worker's incoming stream of frames. They come through the ring in the control memory, or through the socket where
// the ring has no room for them or a descriptor comes with them; frames in either tell which it is from there on. A
// worker that finds none polls for a moment, if the parent allows it, and then sleeps at the socket. reply_stream is
// the other direction. docs/adr/0015-requests-in-a-ring.md.
//
// Thread safety: none; one thread at a time reads it.
#pragma once

#include "process/spin_budget.hpp"
#include "process/unique_fd.hpp"
#include "wire/control_page.hpp"
#include "wire/frame.hpp"
#include "worker/placement.hpp"

#include <sys/types.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace shmpool::worker {

class request_stream {
 public:
  /// The result of waiting.
  enum class arrival : std::uint8_t {
    bytes,    ///< next() may return a frame
    nothing,  ///< the socket's timeout is over
    end,      ///< the parent has closed its end
  };

  /// Throws std::bad_alloc; what is taken from the ring later has its memory.
  request_stream(int socket, wire::control_page& page) : socket_(socket), page_(page) {
    (void)from_ring_.prepare(wire::request_ring_bytes);
  }

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
  /// Polls the ring for as long as the parent allows, since a wake-up takes longer than most waits. True if it has
  /// frames.
  bool poll_ring();

  int socket_;
  wire::control_page& page_;
  wire::frame_reader from_ring_, from_socket_;
  bool on_socket_ = false;    // the next frame comes on the socket
  std::uint64_t taken_ = 0;   // bytes copied out of the ring
  std::uint32_t sleeps_ = 0;  // as control_page::sleeps
  spin_budget spin_;
  placement placement_;
  std::vector<unique_fd> descriptors_;  // received, in stream order, not yet claimed by a frame
};

}  // namespace shmpool::worker
