// How arrays, and blocks of bytes, are written into a message: in place where they are small, as a reference to a
// shared segment where they are not. The layout is in docs/wire-arrays.md. Every value that is read is checked first: a
// message may come from a process that has gone wrong.
//
// Thread safety: as packer and unpacker.
#pragma once

#include <shmpool/array.hpp>
#include <shmpool/detail/codec/message.hpp>
#include <shmpool/detail/segment_source.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

namespace shmpool::detail {

/// The access that the receiver gets.
enum class purpose : std::uint8_t {
  lend,         ///< argument: the elements, to read
  lend_write,   ///< argument: the elements themselves, to edit in place
  give,         ///< argument: elements of its own; the sender's memory if nobody else has it, otherwise a copy
  share,        ///< result: the elements, to read, which the task may share with others
  share_write,  ///< result: the elements themselves, which the task may share with others
};

/// Which way a message goes.
enum class direction : std::uint8_t { argument, result };

constexpr purpose purpose_of(direction way, bool constant) noexcept {
  if (way == direction::argument) return constant ? purpose::lend : purpose::give;
  return constant ? purpose::share : purpose::share_write;
}

/// An array without its type.
struct array_description {
  const shm_handle* owner = nullptr;  ///< null for memory that has no segment, such as a vector's
  const void* elements = nullptr;
  std::size_t element_size = 0;
  std::size_t alignment = 0;
  std::span<const std::size_t> extents;
  bool sole_owner = false;  ///< the sender has no other reference to the segment
};

/// Throws std::invalid_argument for lend_write if the memory cannot be lent, and what segment_source::allocate()
/// throws.
void put_array(packer& to, const array_description& what, purpose why);

/// Where the elements of a received array are: in a segment, or in the message (unaligned, and only until it is gone).
struct received_array {
  const shm_handle* owner = nullptr;  ///< null if the elements are in the message
  const std::byte* elements = nullptr;
  std::size_t bytes = 0;
};

/// Reads an array of rank extents.size() and writes its extents there. Throws protocol_violation if the array is not as
/// these parameters ask; `writable` refuses a segment that was only lent for reading.
received_array take_array(unpacker& from, std::size_t element_size, std::size_t alignment, bool writable,
                          std::span<std::size_t> extents);

/// Bytes whose number the receiver knows already.
void put_block(packer& to, const void* bytes, std::size_t size);
/// Valid until the message is gone; may be unaligned.
const std::byte* take_block(unpacker& from, std::size_t size);

inline void copy_bytes(void* to, const void* from, std::size_t size) noexcept {
  if (size != 0) std::memcpy(to, from, size);
}

template <class E, std::size_t Rank>
void put_array(packer& to, const array<E, Rank>& value, purpose why, bool within_shared = false) {
  put_array(to,
            {.owner = &value.handle(),
             .elements = value.data(),
             .element_size = sizeof(E),
             .alignment = alignof(E),
             .extents = value.extents(),
             .sole_owner = !within_shared && value.handle().use_count() == 1},
            why);
}

/// Elements of a range that is not in shared memory: copied once.
template <class T>
void put_elements(packer& to, std::span<const T> elements) {
  const std::size_t count = elements.size();
  put_array(to,
            {.elements = elements.data(),
             .element_size = sizeof(T),
             .alignment = alignof(T),
             .extents = std::span(&count, 1)},
            purpose::give);
}

template <class E, std::size_t Rank>
array<E, Rank> get_array(unpacker& from) {
  std::array<std::size_t, Rank> extents{};
  const auto received = take_array(from, sizeof(E), alignof(E), !std::is_const_v<E>, extents);
  if (received.owner) {
    const auto offset = static_cast<std::size_t>(received.elements - received.owner->data());
    return array<E, Rank>(*received.owner, offset, extents);
  }
  if (received.bytes == 0) return array<E, Rank>(shm_handle{}, 0, extents);
  shm_handle memory(make_heap_segment(received.bytes, alignof(E)));
  std::memcpy(memory.data(), received.elements, received.bytes);
  return array<E, Rank>(std::move(memory), 0, extents);
}

/// Makes `to` a copy of the elements at `from`, which may be unaligned.
template <class T, class Allocator>
void assign_elements(std::vector<T, Allocator>& to, const std::byte* from, std::size_t count) {
  if (reinterpret_cast<std::uintptr_t>(from) % alignof(T) == 0) {
    const T* first = reinterpret_cast<const T*>(from);
    to.assign(first, first + count);  // one pass; resize() would touch the memory twice
  } else if constexpr (std::is_default_constructible_v<T>) {
    to.resize(count);
    copy_bytes(to.data(), from, count * sizeof(T));
  } else {
    to.clear();
    to.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      std::array<std::byte, sizeof(T)> bytes;
      std::memcpy(bytes.data(), from + i * sizeof(T), sizeof(T));
      to.push_back(std::bit_cast<T>(bytes));
    }
  }
}

template <class T>
std::vector<T> get_vector(unpacker& from) {
  std::size_t count = 0;
  // Elements are copied, so their alignment in the segment does not matter.
  const auto received = take_array(from, sizeof(T), 1, false, std::span(&count, 1));
  std::vector<T> result;
  if (count != 0) assign_elements(result, received.elements, count);
  return result;
}

}  // namespace shmpool::detail
