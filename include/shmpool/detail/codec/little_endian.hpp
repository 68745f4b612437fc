// Numbers and strings as they stand on the wire: little endian, strings behind their 32-bit length.
//
// Thread safety: stateless.
#pragma once

#include <shmpool/detail/codec/message.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shmpool::detail {

template <std::unsigned_integral T>
void append_le(std::vector<std::byte>& to, T value) {
  for (std::size_t i = 0; i != sizeof(T); ++i) to.push_back(static_cast<std::byte>((value >> (8 * i)) & 0xff));
}

/// Throws protocol_violation if the bytes end before the number does, as the functions below do.
template <std::unsigned_integral T>
T take_le(unpacker& from) {
  auto bytes = from.take(sizeof(T));
  T value = 0;
  for (std::size_t i = 0; i != sizeof(T); ++i) {
    value = static_cast<T>(value | static_cast<T>(std::to_integer<T>(bytes[i]) << (8 * i)));
  }
  return value;
}

inline void append_bytes(std::vector<std::byte>& to, std::span<const std::byte> bytes) {
  append_le(to, static_cast<std::uint32_t>(bytes.size()));
  to.insert(to.end(), bytes.begin(), bytes.end());
}

inline void append_string(std::vector<std::byte>& to, std::string_view text) {
  append_bytes(to, std::as_bytes(std::span(text)));
}

/// Bytes behind a 32-bit length of at most `limit`; they are not copied.
inline std::span<const std::byte> take_bytes(unpacker& from, std::size_t limit) {
  const auto size = take_le<std::uint32_t>(from);
  if (size > limit) throw_protocol_violation("message contains a string that is longer than allowed");
  return from.take(size);
}

inline std::string take_string(unpacker& from, std::size_t limit) {
  auto bytes = take_bytes(from, limit);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace shmpool::detail
