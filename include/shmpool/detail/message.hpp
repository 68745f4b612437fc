// What travels with a task or a result: bytes, and references to the shared segments that the bytes talk about.
// packer builds one on the sending side, unpacker reads it on the other.
//
// Thread safety: none; one message belongs to one thread at a time.
#pragma once

#include <shmpool/error.hpp>
#include <shmpool/shm_handle.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <system_error>
#include <type_traits>
#include <vector>

namespace shmpool::detail {

/// What the receiver may do with a segment. The values are part of the wire format.
enum class access : std::uint8_t {
  read = 1,   ///< lent: look only; mapped PROT_READ
  write = 2,  ///< lent: edit in place
  own = 3,    ///< given: the sender keeps no claim
  lease = 4,  ///< free memory that the worker may use for results of this task
};

/// A range of a segment that a message refers to.
struct attachment {
  shm_handle handle;
  std::uint64_t offset = 0;  ///< bytes from the start of the segment
  std::uint64_t length = 0;  ///< bytes
  access mode = access::read;
};

/// True if two ranges have a byte in common. By differences, as the ends of a range that came over the wire could
/// overflow.
constexpr bool ranges_overlap(std::uint64_t offset, std::uint64_t length, std::uint64_t other,
                              std::uint64_t other_length) noexcept {
  return offset <= other ? other - offset < length : offset - other < other_length;
}

/// Where a packer gets shared memory from: the pool's store in the parent, the worker's leases in a worker.
class segment_source {
 public:
  /// A segment of at least `bytes` bytes, mapped and writable, aligned to `alignment` (at most a page). Throws
  /// std::system_error(errc::shm_exhausted) if there is no room.
  virtual shm_handle allocate(std::size_t bytes, std::size_t alignment) = 0;
  /// True if the receiver can be given a reference to this segment; otherwise its bytes must be copied.
  virtual bool can_lend(const shm_handle& handle) const noexcept = 0;
  /// Claims a range of a segment for a look at it in this process; false while a task may write there. Every claim is
  /// given back with end_read().
  virtual bool begin_read(const shm_handle&, std::uint64_t /*offset*/, std::uint64_t /*length*/) { return true; }
  virtual void end_read(const shm_handle&, std::uint64_t /*offset*/, std::uint64_t /*length*/) noexcept {}

 protected:
  ~segment_source() = default;
};

/// Throws std::system_error(errc::protocol_violation) with `what` as its text.
[[noreturn]] void throw_protocol_violation(const char* what);

/// Throws std::system_error(errc::array_busy): what is in the way is another argument of the same call, or a task in
/// flight.
[[noreturn]] void throw_array_busy(bool same_call);

class packer {
 public:
  /// Arrays of at most `inline_limit` bytes are to be written into the message itself.
  packer(segment_source& source, std::size_t inline_limit) noexcept : source_(source), inline_limit_(inline_limit) {}

  void put_bytes(const void* bytes, std::size_t size) {
    const auto* first = static_cast<const std::byte*>(bytes);
    bytes_.insert(bytes_.end(), first, first + size);
  }
  template <class T>
    requires std::is_trivially_copyable_v<T>
  void put(const T& value) {
    put_bytes(&value, sizeof value);
  }

  /// Adds a segment reference and returns its index, which the bytes then name.
  std::uint32_t attach(attachment reference) {
    attachments_.push_back(std::move(reference));
    return static_cast<std::uint32_t>(attachments_.size() - 1);
  }

  segment_source& source() const noexcept { return source_; }
  std::size_t inline_limit() const noexcept { return inline_limit_; }

  std::vector<std::byte>& bytes() noexcept { return bytes_; }
  std::vector<attachment>& attachments() noexcept { return attachments_; }

  /// A range of a segment whose bytes were copied: the same call must not have it for writing.
  struct copied_range {
    const segment* from;
    std::uint64_t offset, length;
  };
  std::vector<copied_range>& copied() noexcept { return copied_; }

 private:
  segment_source& source_;
  std::size_t inline_limit_;
  std::vector<std::byte> bytes_;
  std::vector<attachment> attachments_;
  std::vector<copied_range> copied_;
};

class unpacker {
 public:
  unpacker(std::span<const std::byte> bytes, std::span<const attachment> attachments) noexcept
      : bytes_(bytes), attachments_(attachments) {}

  std::size_t remaining() const noexcept { return bytes_.size(); }

  /// The next `size` bytes; throws protocol_violation if the message is shorter.
  std::span<const std::byte> take(std::size_t size) {
    if (size > bytes_.size()) throw_protocol_violation("message ends in the middle of a value");
    auto result = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return result;
  }
  void get_bytes(void* to, std::size_t size) {
    auto from = take(size);
    if (size != 0) std::memcpy(to, from.data(), size);
  }
  template <class T>
    requires std::is_trivially_copyable_v<T>
  T get() {
    T value;
    get_bytes(&value, sizeof value);
    return value;
  }

  const attachment& attached(std::uint32_t index) const {
    if (index >= attachments_.size()) throw_protocol_violation("message refers to a segment that is not attached");
    return attachments_[index];
  }

 private:
  std::span<const std::byte> bytes_;
  std::span<const attachment> attachments_;
};

/// One call in a worker: the arguments to read, the result to write.
struct invocation {
  unpacker& arguments;
  packer& result;
  const void* target;  ///< the function to call where the trampoline takes one, otherwise null
};

/// Decodes the arguments, calls, encodes the result. One is instantiated per signature; it is named on the wire by the
/// module that holds it and its offset there.
using trampoline = void (*)(invocation&);

/// What to call: a trampoline and, for function pointers, the function itself.
struct callable_ref {
  trampoline entry = nullptr;
  const void* target = nullptr;
  friend bool operator==(const callable_ref&, const callable_ref&) = default;
};

}  // namespace shmpool::detail
