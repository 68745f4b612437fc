#include "worker/reply_stream.hpp"

#include "fault_point.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace shmpool::worker {

bool shortage_pause::passes(int error) noexcept {
  if ((error != ENOMEM && error != ENOBUFS) || ++pauses_ > 50) return false;
  ::usleep(5000);
  return true;
}

void reply_stream::append(const wire::frame_header& header, std::span<const wire::segment_ref> segments,
                          std::span<const std::byte> body) {
  scratch_.clear();
  wire::append_frame(scratch_, header, segments, body);
  if (end_ - sent_ + scratch_.size() > wire::reply_ring_bytes) flush();
  if (scratch_.size() > wire::reply_ring_bytes) {
    // Too large to keep: sent directly. If the worker dies meanwhile, it is this task that is lost.
    send_all(scratch_);
    end_ += scratch_.size();
    sent_ = end_;
    if (scratch_.capacity() > 1024 * 1024) std::vector<std::byte>().swap(scratch_);
  } else {
    const std::size_t at = end_ % wire::reply_ring_bytes;
    const std::size_t first = std::min(scratch_.size(), wire::reply_ring_bytes - at);
    std::memcpy(page_.reply_ring + at, scratch_.data(), first);
    std::memcpy(page_.reply_ring, scratch_.data() + first, scratch_.size() - first);
    end_ += scratch_.size();
  }
  SHMPOOL_FAULT_POINT("worker.ring_written");
  // Release: whoever sees the new end sees the bytes.
  page_.reply_end.store(end_, std::memory_order_release);
  SHMPOOL_FAULT_POINT("worker.published");
}

void reply_stream::flush() noexcept {
  while (sent_ != end_) {
    const std::size_t at = sent_ % wire::reply_ring_bytes;
    const std::size_t size = std::min(static_cast<std::size_t>(end_ - sent_), wire::reply_ring_bytes - at);
    send_all({page_.reply_ring + at, size});
    sent_ += size;
    SHMPOOL_FAULT_POINT("worker.partly_sent");
  }
}

void reply_stream::send_all(std::span<const std::byte> bytes) noexcept {
  for (shortage_pause pause; !bytes.empty();) {
    const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR || pause.passes(errno)) continue;
      ::_exit(0);  // nobody is there to hear it
    }
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
}

}  // namespace shmpool::worker
