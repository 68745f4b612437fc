// Frames: the messages between parent and worker, in their rings and on their stream socket. A fixed header, then
// segment references, then a body. docs/wire-frames.md has the byte layout; this file is its source.
//
// Thread safety: none; a stream belongs to one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace shmpool::wire {

inline constexpr std::uint32_t frame_magic = 0x504d4853;  // "SHMP" in memory
inline constexpr std::uint8_t frame_version = 2;
/// Largest body: 1 GiB.
inline constexpr std::uint32_t max_body = std::uint32_t{1} << 30;
/// Most arrays in arguments or in a result, and most segments that a task is granted.
inline constexpr std::uint32_t max_arrays = 128 * 1024;
/// Enough for a reply that returns so many, keeps all arguments, and keeps all that it was granted.
inline constexpr std::uint32_t max_segments = 4 * max_arrays;

enum class frame_type : std::uint8_t {
  // parent to worker
  hello = 1,      ///< first frame: the worker's settings
  function = 2,   ///< gives function number `value` its code references, before the first task that uses it
  task = 3,       ///< run function `value` in `slot`; segments lent and leased; body: arguments
  grant = 4,      ///< answer to need: one segment or more; answer to open: one
  refuse = 5,     ///< answer to need and open: no; value: errc, body: text
  unmap = 6,      ///< these files (ids in the body) are gone: drop their mappings
  leave = 7,      ///< run the finalizer, and exit
  segment = 8,    ///< introduces a memfd, before the first task that refers to it: one segment, one descriptor
  by_socket = 9,  ///< in the ring: further frames come on the socket, until by_ring
  by_ring = 10,   ///< on the socket: further frames come in the ring again
  wake = 11,      ///< on the socket, no part of the stream of frames: for a worker that sleeps there
  // worker to parent
  ready = 32,  ///< the initializer has run; task: the worker's pid
  value = 33,  ///< the task's result; segments: results first, then those marked kept or created; value: run time in ns
  error = 34,  ///< the task threw; body: the exception; value: run time in ns
  need = 35,   ///< memory for a result: value bytes; slot: need_no_file, and twice how many more segments are welcome
  released = 36,  ///< the worker dropped its last handle on kept segments (ids in the body)
  /// Instead of ready: the initializer threw, or (value 1) the worker cannot be set up, or (value 2) the finalizer is
  /// missing; task: pid; body: the exception.
  init_failed = 37,
  progress = 38,  ///< the task says how far it has come; value: the bits of a double from 0 to 1
  outgrown = 39,  ///< its private resident memory is above the limit; value: bytes
  leaving = 40,   ///< it had nothing to do for so long that it exits now
  open = 42,      ///< it cannot open the segment `value`, which it was given, and needs its descriptor
  /// No part of the reply stream: the next byte is at position `value`, as the parent has taken those before from the
  /// ring.
  skipped = 41,
};

/// In the slot of a `need`: no file could be made in /dev/shm.
inline constexpr std::uint16_t need_no_file = 1;

struct frame_header {
  std::uint32_t magic = frame_magic;
  std::uint8_t version = frame_version;
  frame_type type{};
  std::uint16_t slot = 0;
  std::uint32_t segments = 0;  ///< number of segment_ref that follow
  std::uint32_t body = 0;      ///< bytes that follow those
  std::uint64_t task = 0;
  std::uint64_t value = 0;
};
static_assert(sizeof(frame_header) == 32 && std::is_trivially_copyable_v<frame_header>);

enum segment_flags : std::uint8_t {
  flag_memfd = 1,     ///< the segment is a memfd, known by its id or passed with this frame
  flag_fresh = 2,     ///< leased, and the receiver has to create the file
  flag_created = 4,   ///< reply: the worker has created the file
  flag_kept = 8,      ///< reply: the worker still holds it after the task
  flag_result = 16,   ///< reply: part of the result; those come first, in the order in which the body names them
  flag_with_fd = 32,  ///< the segment's descriptor travels with this frame (segment and grant only)
};

struct segment_ref {
  std::uint64_t id = 0;
  std::uint64_t file = 0;      ///< the segment whose file it lies in: itself, unless it is a block of an arena
  std::uint64_t pool = 0;      ///< the pool that owns it; part of the file's name
  std::uint64_t capacity = 0;  ///< length of the file
  std::uint64_t reserved = 0;  ///< bytes of the segment whose pages exist, or are to be made
  std::uint64_t offset = 0;    ///< from the segment's first byte
  std::uint64_t length = 0;
  std::uint32_t place = 0;  ///< of the segment's first byte in the file
  std::uint8_t access = 0;  ///< detail::access
  std::uint8_t flags = 0;   ///< segment_flags
  std::uint16_t padding = 0;
};
static_assert(sizeof(segment_ref) == 64 && std::is_trivially_copyable_v<segment_ref>);

/// One frame as it lies in a reader's buffer: valid until the reader is touched again.
struct frame {
  frame_header header;
  std::span<const std::byte> segment_bytes;
  std::span<const std::byte> body;

  /// Bytes that it takes in the stream.
  std::size_t size() const noexcept { return sizeof header + segment_bytes.size() + header.body; }
  /// There was no memory for its body, which is empty here.
  bool is_cut() const noexcept { return body.size() != header.body; }
  std::size_t segment_count() const noexcept { return header.segments; }
  segment_ref segment(std::size_t index) const noexcept {
    segment_ref result;
    std::memcpy(&result, segment_bytes.data() + index * sizeof result, sizeof result);
    return result;
  }
};

/// Appends a frame. `header.segments` and `header.body` are filled in here. If memory runs out nothing is appended.
void append_frame(std::vector<std::byte>& out, frame_header header, std::span<const segment_ref> segments,
                  std::span<const std::byte> body);

/// Cuts a byte stream into frames. Where there is no memory for a large body, its frame comes without it. Bytes are
/// received into prepare()'s span, announced with commit(), and come out of next().
class frame_reader {
 public:
  frame_reader() noexcept = default;
  frame_reader(const frame_reader&) = delete;
  frame_reader& operator=(const frame_reader&) = delete;

  enum class status : std::uint8_t {
    frame,       ///< one frame was read
    incomplete,  ///< more bytes are needed
    malformed,   ///< not our protocol; why() says what is wrong. The stream is of no use any more.
  };

  /// Room for at least `least` bytes, and for more if the bytes received last filled the room; an incomplete frame is
  /// kept. Invalidates frames.
  std::span<std::byte> prepare(std::size_t least = 4096);
  void commit(std::size_t bytes) noexcept;
  status next(frame& out);
  /// The type of the next frame, if its header is there.
  std::optional<frame_type> next_type() const noexcept;
  const char* why() const noexcept { return why_; }
  /// Bytes received that do not make a whole frame yet.
  std::size_t pending() const noexcept { return end_ - begin_; }

 private:
  std::unique_ptr<std::byte[]> buffer_;  // of which pages exist as they are used
  std::size_t size_ = 0;
  std::size_t begin_ = 0, end_ = 0;
  bool filled_ = false;     ///< the bytes received last took all the room
  std::size_t wanted_ = 0;  ///< size of the frame that is being received, when known
  bool cut_ = false;        ///< the frame at begin_ has lost its body
  std::size_t left_ = 0;    ///< bytes of the lost body that are yet to come
  const char* why_ = "";

  void grow(std::size_t size);
  bool cut() noexcept;
};

}  // namespace shmpool::wire
