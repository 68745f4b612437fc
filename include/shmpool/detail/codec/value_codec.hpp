// How a value that is not an array travels: as its bytes if it may, otherwise through the archives.
//
// Thread safety: as packer and unpacker.
#pragma once

#include <shmpool/detail/codec/array_codec.hpp>
#include <shmpool/detail/codec/bitwise.hpp>
#include <shmpool/serialize.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace shmpool::detail {

template <class T>
inline constexpr bool is_plain_string = false;
template <class Char, class Traits>
inline constexpr bool is_plain_string<std::basic_string<Char, Traits>> = true;

/// The type that is read for a T: an element of a std::map has a const key, which cannot be read into.
template <class T>
struct read_as {
  using type = T;
};
template <class Key, class T>
struct read_as<std::pair<const Key, T>> {
  using type = std::pair<Key, T>;
};

/// Values of at most this size are written without asking whether they would be better off in a segment.
inline constexpr std::size_t always_in_message = 1024;

template <class T>
void put_value(packer& to, const T& value, direction way) {
  if constexpr (std::is_same_v<T, bool>) {
    to.put(static_cast<unsigned char>(value));
  } else if constexpr (bitwise<T>) {
    require_no_address<T>();
    if constexpr (sizeof(T) <= always_in_message) {
      to.put_bytes(std::addressof(value), sizeof(T));
    } else {
      put_block(to, std::addressof(value), sizeof(T));
    }
  } else if constexpr (is_plain_string<T>) {  // as the archive would, without making one
    to.put(value.size());
    put_block(to, value.data(), value.size() * sizeof(typename T::value_type));
  } else {
    output_archive archive(to, way);
    archive(value);
    archive.finish();
  }
}

template <class T>
T get_value(unpacker& from) {
  if constexpr (std::is_same_v<T, bool>) {
    const auto byte = from.get<unsigned char>();
    if (byte > 1) throw_protocol_violation("truth value that is neither 0 nor 1");
    return byte != 0;
  } else if constexpr (bitwise<T>) {
    std::array<std::byte, sizeof(T)> bytes;
    if constexpr (sizeof(T) <= always_in_message) {
      from.get_bytes(bytes.data(), sizeof(T));
    } else {
      std::memcpy(bytes.data(), take_block(from, sizeof(T)), sizeof(T));
    }
    return std::bit_cast<T>(bytes);
  } else if constexpr (is_plain_string<T>) {
    using character = typename T::value_type;
    const auto size = from.get<std::size_t>();
    if (size > static_cast<std::size_t>(-1) / 2 / sizeof(character)) throw_protocol_violation("string too long");
    const std::byte* bytes = take_block(from, size * sizeof(character));
    T value(size, character{});
    copy_bytes(value.data(), bytes, size * sizeof(character));
    return value;
  } else {
    static_assert(
        std::is_default_constructible_v<T>,
        "shmpool: a type that is read through cereal must be default constructible; send a std::optional or a "
        "std::unique_ptr of it, or make it trivially copyable");
    try {
      typename read_as<T>::type value{};
      input_archive archive(from);
      archive(value);
      archive.finish();
      return value;
    } catch (const cereal::Exception& error) {
      throw_protocol_violation(error.what());
    } catch (const std::length_error& error) {
      // From containers that were given a size that makes no sense. Other exceptions of the type pass.
      throw_protocol_violation(error.what());
    }
  }
}

}  // namespace shmpool::detail
