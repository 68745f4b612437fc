// Lets the types of user code travel: cereal archives, and cereal's support for the standard library.
//
// A type of yours needs nothing here if it is trivially copyable. Any other type needs serialization functions as
// cereal asks for them, in any of their forms, for instance
//
//   struct job {
//     std::string name;
//     shmpool::array<const double> samples;       // travels in shared memory, wherever it is nested
//     template <class Archive> void serialize(Archive& archive) { archive(name, samples); }
//   };
//
// Strings, vectors of trivially copyable elements and cereal::binary_data() that are large go through a shared segment.
// Trivially copyable types must not hold pointers, views or other addresses, which would point nowhere. That is a
// compile error in aggregates; in a class with a constructor or with private members the compiler cannot tell. Error
// codes travel by the name of their category (register_error_category.hpp). For types behind a pointer to a polymorphic
// base, use CEREAL_REGISTER_TYPE after including this header.
//
// Thread safety: an archive belongs to one thread.
#pragma once

#include <shmpool/array.hpp>
#include <shmpool/detail/codec/archive.hpp>
#include <shmpool/detail/codec/bitwise.hpp>
#include <shmpool/detail/codec/error_code_codec.hpp>
#include <shmpool/detail/codec/verdict.hpp>

#include <cereal/types/array.hpp>
#include <cereal/types/atomic.hpp>
#include <cereal/types/base_class.hpp>
#include <cereal/types/bitset.hpp>
#include <cereal/types/chrono.hpp>
#include <cereal/types/complex.hpp>
#include <cereal/types/deque.hpp>
#include <cereal/types/forward_list.hpp>
#include <cereal/types/functional.hpp>
#include <cereal/types/list.hpp>
#include <cereal/types/map.hpp>
#include <cereal/types/memory.hpp>
#include <cereal/types/optional.hpp>
#include <cereal/types/queue.hpp>
#include <cereal/types/set.hpp>
#include <cereal/types/stack.hpp>
#include <cereal/types/string.hpp>
#include <cereal/types/tuple.hpp>
#include <cereal/types/unordered_map.hpp>
#include <cereal/types/unordered_set.hpp>
#include <cereal/types/utility.hpp>
#include <cereal/types/valarray.hpp>
#include <cereal/types/variant.hpp>
#include <cereal/types/vector.hpp>

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>
#include <valarray>
#include <vector>

namespace shmpool {

// ---- Arrays, wherever they are nested.

template <class E, std::size_t Rank>
void save(output_archive& archive, const array<E, Rank>& value) {
  archive.save_array(value);
}
template <class E, std::size_t Rank>
void load(input_archive& archive, array<E, Rank>& value) {
  archive.load_array(value);
}

// ---- Standard classes that refer to something of this process. These functions report that; cereal would report that
// it has found no function.

template <class Archive, class T>
  requires(std::same_as<Archive, output_archive> && detail::untaught_address_class<T>)
void save(Archive&, const T&) {
  detail::require_no_address<T>();
}
template <class Archive, class T>
  requires(std::same_as<Archive, input_archive> && detail::untaught_address_class<T>)
void load(Archive&, T&) {
  detail::require_no_address<T>();
}

// ---- Trivially copyable classes. An empty one writes nothing, as cereal has it: its byte may belong to a neighbour.

template <class Archive, class T>
  requires(std::same_as<Archive, output_archive> && detail::plain_class<T> && !std::is_empty_v<T>)
void save(Archive& archive, const T& value) {
  detail::require_no_address<T>();
  archive.save_bytes(std::addressof(value), sizeof(T));
}
template <class Archive, class T>
  requires(std::same_as<Archive, input_archive> && detail::plain_class<T> && !std::is_empty_v<T>)
void load(Archive& archive, T& value) {
  std::array<std::byte, sizeof(T)> bytes;
  archive.load_bytes(bytes.data(), sizeof(T));
  if constexpr (std::is_copy_assignable_v<T>) {
    // Not memcpy: `value` may be a base, with members of the derived class in its tail.
    value = std::bit_cast<T>(bytes);
  } else {
    std::construct_at(std::addressof(value), std::bit_cast<T>(bytes));
  }
}

// ---- Contiguous containers of bytes: one block. These functions are better matches than cereal's own, and check the
// block before they allocate.

namespace detail {

template <class T>
void save_block_of(output_archive& archive, const T* elements, std::size_t count) {
  archive.save_bytes(&count, sizeof count);
  archive.save_block(elements, count * sizeof(T));
}

struct block_of_elements {
  const std::byte* elements;
  std::size_t count;
};
block_of_elements load_block_of(input_archive& archive, std::size_t element_size);

}  // namespace detail

template <detail::bitwise T, class Allocator>
void save(output_archive& archive, const std::vector<T, Allocator>& value) {
  detail::save_block_of(archive, value.data(), value.size());
}
template <detail::bitwise T, class Allocator>
void load(input_archive& archive, std::vector<T, Allocator>& value) {
  const auto block = detail::load_block_of(archive, sizeof(T));
  detail::assign_elements(value, block.elements, block.count);
}

template <class Char, class Traits, class Allocator>
void save(output_archive& archive, const std::basic_string<Char, Traits, Allocator>& value) {
  detail::save_block_of(archive, value.data(), value.size());
}
template <class Char, class Traits, class Allocator>
void load(input_archive& archive, std::basic_string<Char, Traits, Allocator>& value) {
  const auto block = detail::load_block_of(archive, sizeof(Char));
  value.resize(block.count);
  detail::copy_bytes(value.data(), block.elements, block.count * sizeof(Char));
}

template <detail::bitwise T>
void save(output_archive& archive, const std::valarray<T>& value) {
  detail::save_block_of(archive, std::begin(value), value.size());
}
template <detail::bitwise T>
void load(input_archive& archive, std::valarray<T>& value) {
  const auto block = detail::load_block_of(archive, sizeof(T));
  value.resize(block.count);
  if (block.count != 0) detail::copy_bytes(std::begin(value), block.elements, block.count * sizeof(T));
}

template <detail::bitwise T, std::size_t N>
  requires(N > 0)
void save(output_archive& archive, const std::array<T, N>& value) {
  archive.save_block(value.data(), sizeof value);
}
template <detail::bitwise T, std::size_t N>
  requires(N > 0)
void load(input_archive& archive, std::array<T, N>& value) {
  archive.load_block(value.data(), sizeof value);
}

}  // namespace shmpool
