// How an exception type of the application is turned into bytes in a worker and rebuilt in the parent. Specialise
// exception_traits for types that need more than their text. Thread safety: stateless.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace shmpool {

namespace detail {

/// Strings of an exception are cut to this many bytes before they travel.
inline constexpr std::size_t max_exception_text = 64 * 1024;

/// Marks the traits of types that are rebuilt from nothing but their text.
struct carried_as_text {};

template <class E>
concept has_what = requires(const E& error) {
  { error.what() } -> std::convertible_to<const char*>;
};

}  // namespace detail

/// The state of an `E` as bytes, and an `E` from these bytes. By default the state is what(), and `E` is constructed
/// from it as a std::string or const char*.
///
/// A specialisation has the same two functions. Both may throw: the exception then arrives as its nearest standard base
/// with the original text. load() sees bytes that a worker wrote and must not trust them.
template <class E>
struct exception_traits : detail::carried_as_text {
  static std::vector<std::byte> save(const E& error) {
    static_assert(detail::has_what<E>, "give the type a what(), or specialise shmpool::exception_traits for it");
    const char* text = error.what();
    if (text == nullptr) return {};
    const auto* first = reinterpret_cast<const std::byte*>(text);
    return {first, first + ::strnlen(text, detail::max_exception_text)};
  }

  static E load(std::span<const std::byte> state) {
    constexpr bool from_string = std::is_constructible_v<E, const std::string&>;
    static_assert(from_string || std::is_constructible_v<E, const char*>,
                  "give the type a constructor from std::string or const char*, or specialise "
                  "shmpool::exception_traits for it");
    const std::string text(reinterpret_cast<const char*>(state.data()), state.size());
    if constexpr (from_string) {
      return E(text);
    } else {
      return E(text.c_str());
    }
  }
};

}  // namespace shmpool
