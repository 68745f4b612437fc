#include "worker/reply_stream.hpp"

#include "process/fault_point.hpp"
#include "process/program_start.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
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
  if (original_.inherited()) ::_exit(copy_status);
  scratch_.clear();
  wire::append_frame(scratch_, header, segments, body);
  skip_taken();
  if (end_ - sent_ + scratch_.size() > wire::reply_ring_bytes) send_rest();
  const std::uint64_t end = end_ + scratch_.size();
  const bool keeps = scratch_.size() <= wire::reply_ring_bytes;
  // Store it even if nothing is overwritten: a task may have written to the page.
  page_.reply_begin.store(keeps ? end - std::min<std::uint64_t>(end, wire::reply_ring_bytes) : end,
                          std::memory_order_relaxed);
  // Before the bytes change: a reader that copies the new bytes sees that the old ones are gone.
  std::atomic_thread_fence(std::memory_order_release);
  if (keeps) {
    const std::size_t at = end_ % wire::reply_ring_bytes;
    const std::size_t first = std::min(scratch_.size(), wire::reply_ring_bytes - at);
    std::memcpy(page_.reply_ring + at, scratch_.data(), first);
    std::memcpy(page_.reply_ring, scratch_.data() + first, scratch_.size() - first);
  }
  SHMPOOL_FAULT_POINT("worker.ring_written");
  // Release: a reader that sees the new end sees the bytes. Bytes are published before they are sent, so the parent
  // never receives more than the published end.
  page_.reply_end.store(end, std::memory_order_release);
  SHMPOOL_FAULT_POINT("worker.published");
  if (!keeps) {
    // Send directly. If the worker dies meanwhile, this task is lost.
    send_all(scratch_);
    sent_ = told_ = end;
    if (scratch_.capacity() > 1024 * 1024) std::vector<std::byte>().swap(scratch_);
  }
  end_ = end;
}

void reply_stream::skip_taken() noexcept {
  if (const std::uint64_t taken = page_.reply_taken.load(std::memory_order_acquire); taken > sent_ && taken <= end_)
    sent_ = taken;
}

void reply_stream::flush() noexcept {
  skip_taken();
  if (sent_ == end_) return;
  // Either this thread sees that the parent sleeps, or the parent's last look sees the new end.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const std::uint64_t sleeps = page_.parent_sleeps.load(std::memory_order_relaxed);
  if (sleeps % 2 == 0) return;
  // A parent that has heard the bell changes the number before it looks: if it is the same, that look is to come.
  if (sleeps == rung_) return;
  if (ring()) rung_ = sleeps;
  else send_rest();
}

bool reply_stream::ring() noexcept {
  if (!bell_) return false;
  for (;;) {
    const ssize_t written = ::write(bell_.get(), &number_, sizeof number_);
    if (written == sizeof number_) return true;
    const int error = written < 0 ? errno : 0;
    if (error == EAGAIN) return false;
    if (error == EINTR) continue;
    if (error == EPIPE) ::_exit(0);  // the parent is gone
    // A task has closed it, and perhaps opened something of its own under that number.
    (void)bell_.release();
    return false;
  }
}

void reply_stream::send_rest() noexcept {
  if (told_ != sent_) {
    wire::frame_header header;
    header.type = wire::frame_type::skipped;
    header.value = sent_;
    send_all(std::as_bytes(std::span(&header, 1)));
    told_ = sent_;
  }
  while (sent_ != end_) {
    const std::size_t at = sent_ % wire::reply_ring_bytes;
    const std::size_t size = std::min(static_cast<std::size_t>(end_ - sent_), wire::reply_ring_bytes - at);
    send_all({page_.reply_ring + at, size});
    sent_ += size;
    told_ = sent_;
    SHMPOOL_FAULT_POINT("worker.partly_sent");
  }
}

void reply_stream::send_all(std::span<const std::byte> bytes) noexcept {
  for (shortage_pause pause; !bytes.empty();) {
    const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR || pause.passes(errno)) continue;
      ::_exit(0);  // the parent is gone
    }
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
}

}  // namespace shmpool::worker
