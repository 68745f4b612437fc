// References from a message to shared segments.
//
// Thread safety: values.
#pragma once

#include <shmpool/shm_handle.hpp>

#include <cstdint>

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

/// True if two ranges have a byte in common. Compares differences, because the end of a range that came over the wire
/// could overflow.
constexpr bool ranges_overlap(std::uint64_t offset, std::uint64_t length, std::uint64_t other,
                              std::uint64_t other_length) noexcept {
  return offset <= other ? other - offset < length : offset - other < other_length;
}

/// Throws std::system_error(errc::array_busy): the array is in use by another argument of the same call, or by a task
/// in flight.
[[noreturn]] void throw_array_busy(bool same_call);

}  // namespace shmpool::detail
