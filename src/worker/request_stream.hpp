// The worker's incoming stream: the parent's frames, and the descriptors that come with some. If the parent allows it,
// the stream polls for a moment before it sleeps. reply_stream is the other direction.
//
// Thread safety: none; one thread at a time reads it.
#pragma once

#include "process/spin_budget.hpp"
#include "process/unique_fd.hpp"
#include "wire/control_page.hpp"
#include "wire/frame.hpp"

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

  request_stream(int socket, wire::control_page& page) noexcept : socket_(socket), page_(page) {}

  /// The next frame that was received already. A malformed frame ends the process: the parent makes none.
  bool next(wire::frame& out);
  /// True if part of a frame was received.
  bool is_within_frame() const noexcept { return reader_.pending() != 0; }
  /// Waits for more bytes.
  arrival receive();

  /// The oldest descriptor that was not taken, an empty one if this process had no room for it. Leaves the process if
  /// no descriptor has come.
  unique_fd take_descriptor();
  /// Gives a descriptor back, to be taken next.
  void return_descriptor(unique_fd descriptor) { descriptors_.insert(descriptors_.begin(), std::move(descriptor)); }

 private:
  ssize_t receive_once(int flags);
  ssize_t receive_soon();

  int socket_;
  wire::control_page& page_;
  wire::frame_reader reader_;
  std::uint64_t taken_in_ = 0;  // received bytes, to compare with control_page::frames_end
  spin_budget spin_;
  std::vector<unique_fd> descriptors_;  // received, in stream order, not yet claimed by a frame
};

}  // namespace shmpool::worker
