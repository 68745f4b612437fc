#include "wire/frame.hpp"

#include <algorithm>
#include <new>
#include <utility>

namespace shmpool::wire {

namespace {

constexpr std::size_t initial_buffer = 64 * 1024;

}  // namespace

void append_frame(std::vector<std::byte>& out, frame_header header, std::span<const segment_ref> segments,
                  std::span<const std::byte> body) {
  header.segments = static_cast<std::uint32_t>(segments.size());
  header.body = static_cast<std::uint32_t>(body.size());
  const std::size_t size = out.size() + sizeof header + segments.size_bytes() + body.size();
  if (out.capacity() < size) out.reserve(std::max(size, 2 * out.capacity()));
  const auto append = [&out](std::span<const std::byte> bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); };
  append(std::as_bytes(std::span(&header, 1)));
  if (!segments.empty()) append(std::as_bytes(segments));
  if (!body.empty()) append(body);
}

std::span<std::byte> frame_reader::prepare(std::size_t least) {
  if (begin_ == end_) {
    begin_ = end_ = 0;
    // One huge frame must not keep its buffer for good.
    if (size_ > 16 * initial_buffer) {
      buffer_.reset();
      size_ = 0;
    }
  } else if (begin_ != 0) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (filled_) least = std::max(least, std::min(2 * size_, initial_buffer));
  // Grow with what has arrived, not with what the header claims: a liar must not make us allocate a gigabyte.
  const std::size_t wanted = std::max(std::min(wanted_, std::max(2 * end_, initial_buffer)), end_ + least);
  if (size_ < wanted) {
    try {
      // At least twice as much, or each piece of a large frame would copy all of it; and no more than the frame.
      grow(std::max(wanted, std::min(2 * size_, wanted_)));
    } catch (const std::bad_alloc&) {
      if (!cut()) throw;
    }
  }
  return {buffer_.get() + end_, size_ - end_};
}

void frame_reader::grow(std::size_t size) {
  auto larger = std::make_unique_for_overwrite<std::byte[]>(size);
  if (end_ != 0) std::memcpy(larger.get(), buffer_.get(), end_);
  buffer_ = std::move(larger);
  size_ = size;
}

/// Gives up the body of the frame that is being received, so that at least its header and segments are delivered. False
/// if there is no body to give up, or no room without it.
bool frame_reader::cut() noexcept {
  if (wanted_ == 0) return false;
  frame_header header;
  std::memcpy(&header, buffer_.get(), sizeof header);
  const std::size_t kept = sizeof header + header.segments * sizeof(segment_ref);
  if (end_ < kept || size_ == kept) return false;
  left_ = wanted_ - end_;
  end_ = kept;
  cut_ = true;
  wanted_ = 0;
  return true;
}

void frame_reader::commit(std::size_t bytes) noexcept {
  if (left_ != 0) {
    const std::size_t dropped = std::min(left_, bytes);
    left_ -= dropped;
    bytes -= dropped;
    std::memmove(buffer_.get() + end_, buffer_.get() + end_ + dropped, bytes);
  }
  end_ += bytes;
  filled_ = end_ == size_;
}

std::optional<frame_type> frame_reader::next_type() const noexcept {
  frame_header header;
  if (end_ - begin_ < sizeof header) return std::nullopt;
  std::memcpy(&header, buffer_.get() + begin_, sizeof header);
  return header.type;
}

frame_reader::status frame_reader::next(frame& out) {
  const std::size_t available = end_ - begin_;
  wanted_ = 0;
  if (available < sizeof(frame_header)) return status::incomplete;
  const std::byte* at = buffer_.get() + begin_;
  std::memcpy(&out.header, at, sizeof out.header);
  if (out.header.magic != frame_magic) return why_ = "frame without the magic number", status::malformed;
  if (out.header.version != frame_version) return why_ = "frame of another protocol version", status::malformed;
  if (out.header.body > max_body) return why_ = "frame body larger than 1 GiB", status::malformed;
  if (out.header.segments > max_segments) return why_ = "frame with too many segments", status::malformed;
  const std::size_t segment_bytes = out.header.segments * sizeof(segment_ref);
  if (left_ != 0) return status::incomplete;
  const std::size_t body = std::exchange(cut_, false) ? 0 : out.header.body;
  const std::size_t total = sizeof(frame_header) + segment_bytes + body;
  if (available < total) {
    wanted_ = total;
    return status::incomplete;
  }
  out.segment_bytes = {at + sizeof(frame_header), segment_bytes};
  out.body = {at + sizeof(frame_header) + segment_bytes, body};
  begin_ += total;
  return status::frame;
}

}  // namespace shmpool::wire
