// The message of a task or a result: bytes, and references to the shared segments that the bytes name. packer builds a
// message on the sending side, unpacker reads it on the other.
//
// Thread safety: none; one message belongs to one thread at a time.
#pragma once

#include <shmpool/detail/attachment.hpp>
#include <shmpool/detail/segment_source.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace shmpool::detail {

/// Throws std::system_error(errc::protocol_violation) with `what` as its text.
[[noreturn]] void throw_protocol_violation(const char* what);

class packer {
 public:
  /// Arrays of at most `inline_limit` bytes are to be written into the message itself.
  packer(segment_source& source, std::size_t inline_limit) noexcept : source_(source), inline_limit_(inline_limit) {}

  /// So many bytes are about to be put: takes their memory at once.
  void expect(std::size_t size) {
    const std::size_t wanted = bytes_.size() + size;
    if (bytes_.capacity() < wanted) bytes_.reserve(std::max(wanted, 2 * bytes_.capacity()));
  }
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
    const auto index = static_cast<std::uint32_t>(attachments_.size());
    if (reference.mode == access::write) written_.push_back(index);
    attachments_.push_back(std::move(reference));
    return index;
  }

  segment_source& source() const noexcept { return source_; }
  std::size_t inline_limit() const noexcept { return inline_limit_; }

  std::vector<std::byte>& bytes() noexcept { return bytes_; }
  std::vector<attachment>& attachments() noexcept { return attachments_; }
  /// Which of the attachments are lent for writing: few, as only parameters are.
  std::span<const std::uint32_t> written() const noexcept { return written_; }

  /// A range of a segment whose bytes were copied: the same call must not lend the range for writing.
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
  std::vector<std::uint32_t> written_;
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

}  // namespace shmpool::detail
