// Extents of arrays: which arguments count as one, their checked product, and how make_array() reads its arguments.
//
// Thread safety: pure functions.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

namespace shmpool::detail {

/// An integer type, but not bool or a character type: those are element values.
template <class T>
concept extent_like =
    std::integral<std::remove_cvref_t<T>> && !std::same_as<std::remove_cvref_t<T>, bool> &&
    !std::same_as<std::remove_cvref_t<T>, char> && !std::same_as<std::remove_cvref_t<T>, wchar_t> &&
    !std::same_as<std::remove_cvref_t<T>, char8_t> && !std::same_as<std::remove_cvref_t<T>, char16_t> &&
    !std::same_as<std::remove_cvref_t<T>, char32_t>;

[[noreturn]] void throw_extents_too_large();
[[noreturn]] void throw_negative_extent(long long extent);
[[noreturn]] void throw_index_out_of_range(long long index, std::size_t dimension, std::size_t extent);
[[noreturn]] void throw_index_out_of_range(unsigned long long index, std::size_t dimension, std::size_t extent);
[[noreturn]] void throw_rows_out_of_range(std::size_t first, std::size_t last, std::size_t extent);
[[noreturn]] void throw_wrong_reshape(std::size_t from, std::size_t to);
[[noreturn]] void throw_outside_segment();

template <extent_like T>
constexpr std::size_t to_extent(T value) {
  if constexpr (std::signed_integral<T>) {
    if (value < 0) throw_negative_extent(value);
  }
  return static_cast<std::size_t>(value);
}

/// Throws std::out_of_range, naming the index and the extent, unless 0 <= index < extent.
template <extent_like T>
constexpr std::size_t checked_index(T index, std::size_t dimension, std::size_t extent) {
  if constexpr (std::signed_integral<T>) {
    if (index < 0) throw_index_out_of_range(static_cast<long long>(index), dimension, extent);
  }
  if (static_cast<std::size_t>(index) >= extent) {
    throw_index_out_of_range(static_cast<unsigned long long>(index), dimension, extent);
  }
  return static_cast<std::size_t>(index);
}

/// Sets `bytes` to the size of an array of these extents with elements of `element_size` bytes. False if that is more
/// than a process can address. An array with a zero extent has no elements, however large the others are.
template <std::size_t Rank>
constexpr bool product_in_bytes(const std::array<std::size_t, Rank>& extents, std::size_t element_size,
                                std::size_t& bytes) noexcept {
  constexpr std::size_t most = static_cast<std::size_t>(-1) / 2;
  for (std::size_t extent : extents) {
    if (extent == 0) {
      bytes = 0;
      return true;
    }
  }
  bytes = element_size;
  for (std::size_t extent : extents) {
    if (extent > most / bytes) return false;
    bytes *= extent;
  }
  return true;
}

template <std::size_t Rank>
constexpr std::size_t checked_bytes(const std::array<std::size_t, Rank>& extents, std::size_t element_size) {
  std::size_t bytes = 0;
  if (!product_in_bytes(extents, element_size, bytes)) throw_extents_too_large();
  return bytes;
}

/// The result of shmpool::fill().
template <class T>
struct fill_value {
  T value;
};

template <class T>
inline constexpr bool is_fill_value = false;
template <class T>
inline constexpr bool is_fill_value<fill_value<T>> = true;

template <class T>
inline constexpr std::size_t extents_array_rank = 0;
template <extent_like T, std::size_t Rank>
inline constexpr std::size_t extents_array_rank<std::array<T, Rank>> = Rank;

/// How make_array() reads its arguments: some extents, or one std::array of them, then perhaps a value to fill with.
template <class... Args>
struct array_arguments {
 private:
  static constexpr std::size_t count = sizeof...(Args);
  static constexpr std::array<bool, count + 1> integers{extent_like<Args>..., false};
  static constexpr std::array<std::size_t, count + 1> ranks{extents_array_rank<std::remove_cvref_t<Args>>..., 0};

  static constexpr std::size_t leading_integers() noexcept {
    std::size_t n = 0;
    while (n < count && integers[n]) ++n;
    return n;
  }

 public:
  static constexpr bool from_std_array = ranks[0] != 0;
  static constexpr std::size_t extent_arguments = from_std_array ? 1 : leading_integers();
  static constexpr std::size_t rank = from_std_array ? ranks[0] : extent_arguments;
  static constexpr bool filled = count == extent_arguments + 1;
  static constexpr bool valid = rank > 0 && count <= extent_arguments + 1;
  /// Whether the last of several extents is an integer that is small, as elements of type T are and extents are not.
  template <class T>
  static constexpr bool ends_like_a_fill_value =
      !from_std_array && !filled && count > 1 && sizeof(T) < sizeof(int) &&
      std::is_same_v<std::tuple_element_t<count == 0 ? 0 : count - 1, std::tuple<std::remove_cvref_t<Args>..., void>>,
                     T>;
};

/// The extents among the arguments of make_array(); whatever follows them is ignored.
template <std::size_t Rank, class First, class... Rest>
constexpr std::array<std::size_t, Rank> read_extents(const First& first, const Rest&... rest) {
  std::array<std::size_t, Rank> extents{};
  if constexpr (extents_array_rank<First> != 0) {
    for (std::size_t i = 0; i < Rank; ++i) extents[i] = to_extent(first[i]);
  } else {
    std::size_t i = 0;
    auto read = [&](const auto& argument) {
      if constexpr (extent_like<decltype(argument)>) extents[i++] = to_extent(argument);
    };
    read(first);
    (read(rest), ...);
  }
  return extents;
}

}  // namespace shmpool::detail
