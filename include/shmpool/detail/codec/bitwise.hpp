// Which types travel as their bytes: scalars, and trivially copyable classes without cereal functions. A class with a
// serialize() of its own is never taken for its bytes, even where that would compile: it may well hold a pointer. A
// class without one that holds an address is refused, where that can be known (addresses.hpp).
//
// Thread safety: nothing happens at run time.
#pragma once

#include <shmpool/detail/codec/addresses.hpp>
#include <shmpool/detail/codec/archive.hpp>
#include <shmpool/detail/codec/verdict.hpp>

#include <array>
#include <chrono>
#include <complex>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <ranges>
#include <type_traits>

namespace shmpool::detail {

// These probe archives ask whether cereal can serialize a type by other means than its bytes. They derive from our
// archives, so that every function that accepts ours is found. They are not ours, so that the byte-wise functions below
// do not match, and the question does not depend on its own answer.
class probe_output : public output_archive {
  using output_archive::output_archive;
};
class probe_input : public input_archive {
  using input_archive::input_archive;
};

}  // namespace shmpool::detail

CEREAL_SETUP_ARCHIVE_TRAITS(shmpool::detail::probe_input, shmpool::detail::probe_output)

namespace shmpool::detail {

/// Trivially copyable types that are nothing but a reference to memory elsewhere.
template <class T>
inline constexpr bool refers_to_memory = std::ranges::enable_view<T>;
template <class T>
inline constexpr bool refers_to_memory<std::reference_wrapper<T>> = true;
template <class T>
inline constexpr bool refers_to_memory<std::initializer_list<T>> = true;
template <class T>
inline constexpr bool refers_to_memory<std::coroutine_handle<T>> = true;

/// True if cereal can write or read a T by other means than its bytes.
template <class T>
inline constexpr bool has_serializer = cereal::traits::detail::count_output_serializers<T, probe_output>::value != 0 ||
                                       cereal::traits::detail::count_input_serializers<T, probe_input>::value != 0;

/// cereal's own wrappers are handled inside cereal, not by a save() function.
template <class T>
inline constexpr bool is_cereal_wrapper = std::is_base_of_v<cereal::traits::detail::BaseCastBase, T> ||
                                          std::is_base_of_v<cereal::detail::DeferredDataCore, T>;

template <class T>
consteval bool has_no_serializer() {
  if constexpr (!(std::is_class_v<T> || std::is_union_v<T>) || !std::is_trivially_copyable_v<T>) {
    return false;
  } else if constexpr (refers_to_memory<T> || is_address_class<T> || is_cereal_wrapper<T>) {
    return false;
  } else {
    return !has_serializer<T>;
  }
}

/// A trivially copyable class that can only travel as its bytes.
template <class T>
concept plain_class = has_no_serializer<T>();

/// Standard types that cereal would write member by member, and whose bytes do as well.
template <class T>
inline constexpr bool is_bitwise_standard_type = false;

/// Types of which any number in a row may be copied as one block.
template <class T>
concept bitwise = (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) || std::is_enum_v<T> || plain_class<T> ||
                  is_bitwise_standard_type<T>;

template <class T>
inline constexpr bool is_bitwise_standard_type<std::complex<T>> = true;
template <bitwise T, class Period>
inline constexpr bool is_bitwise_standard_type<std::chrono::duration<T, Period>> = true;
template <class Clock, class Duration>
inline constexpr bool is_bitwise_standard_type<std::chrono::time_point<Clock, Duration>> =
    is_bitwise_standard_type<Duration>;
template <bitwise T, std::size_t N>
inline constexpr bool is_bitwise_standard_type<std::array<T, N>> = N > 0;

/// Standard classes that refer to something of this process, and have no cereal functions.
template <class T>
concept untaught_address_class = std::is_class_v<T> && !error_code_type<T> && is_address_class<T> && !has_serializer<T>;

template <class Address>
inline constexpr verdict verdict_on_address =
    error_code_type<Address> ? verdict::category_in_value : verdict::address_in_value;
template <>
inline constexpr verdict verdict_on_address<void> = verdict::ok;

/// Does not compile where the bytes of a T would carry an address.
template <class T>
consteval void require_no_address() {
  require_ok<verdict_on_address<address_in<T>>, T, address_in<T>>();
}

}  // namespace shmpool::detail
