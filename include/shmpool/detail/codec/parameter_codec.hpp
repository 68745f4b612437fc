// How one argument travels to one parameter. The parameter's type decides: parameter_codec<P> is the table of the
// design, one specialisation per row. Each says which arguments it takes (judge), how an argument is kept until the
// task is submitted (stored, store), how it is written (put), and in the worker how it is read (holder, get) and passed
// (pass).
//
// Arguments are kept like Asio keeps buffers: arrays by handle, contiguous ranges that are lvalues by reference (they
// must live and stay as they are until the operation is initiated), rvalues moved, everything else converted or copied.
//
// Thread safety: as packer and unpacker.
#pragma once

#include <shmpool/array.hpp>
#include <shmpool/detail/codec/array_codec.hpp>
#include <shmpool/detail/codec/sendable.hpp>
#include <shmpool/detail/codec/value_codec.hpp>
#include <shmpool/detail/codec/verdict.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace shmpool::detail {

template <class T>
inline constexpr bool is_array = false;
template <class T, std::size_t Rank>
inline constexpr bool is_array<array<T, Rank>> = true;

template <class T>
inline constexpr bool is_span = false;
template <class T, std::size_t Extent>
inline constexpr bool is_span<std::span<T, Extent>> = true;

template <class T>
inline constexpr bool is_element_vector = false;
template <bitwise T>
inline constexpr bool is_element_vector<std::vector<T>> = true;

template <class T>
inline constexpr bool is_string_view = false;
template <class Char, class Traits>
inline constexpr bool is_string_view<std::basic_string_view<Char, Traits>> = true;

template <class P>
inline constexpr bool is_mutable_reference =
    std::is_lvalue_reference_v<P> && !std::is_const_v<std::remove_reference_t<P>>;

/// An array of any rank whose elements are T or const T.
template <class Arg, class T>
concept array_of = is_array<std::remove_cvref_t<Arg>> && std::same_as<typename std::remove_cvref_t<Arg>::value_type, T>;

/// A contiguous range of T that is not one of our arrays.
template <class Arg, class T>
concept foreign_range_of =
    !is_array<std::remove_cvref_t<Arg>> && std::ranges::contiguous_range<std::remove_reference_t<Arg>&> &&
    std::ranges::sized_range<std::remove_reference_t<Arg>&> &&
    std::same_as<std::ranges::range_value_t<std::remove_reference_t<Arg>&>, T>;

template <class T, std::size_t Rank>
array<T, 1> flat(const array<T, Rank>& value) {
  return value.reshape(value.size());
}

// ---- Shared by the rows that only read elements: array<const T>, std::span<const T>, std::vector<T>.

/// How a readable argument is kept. Forwarded C arrays cannot be kept, so their elements are.
template <class T, class Arg>
struct kept_range {
  using type = std::remove_cvref_t<Arg>;
};
template <class T, class Arg>
struct kept_range<T, Arg&> {
  using type = std::span<const T>;
};
template <class T, class Element, std::size_t N>
struct kept_range<T, Element[N]> {
  using type = std::array<std::remove_const_t<Element>, N>;
};

template <class T, class Arg>
typename kept_range<T, Arg>::type keep_range(Arg&& arg) {
  if constexpr (std::is_lvalue_reference_v<Arg>) {
    return std::span<const T>(std::ranges::data(arg), static_cast<std::size_t>(std::ranges::size(arg)));
  } else if constexpr (std::is_array_v<Arg>) {
    return std::to_array(std::move(arg));
  } else {
    return std::forward<Arg>(arg);
  }
}

template <class T, class Stored>
void put_readable(packer& to, Stored& stored) {
  if constexpr (is_array<Stored>) {
    put_array(to, stored, purpose::lend);
  } else {
    put_elements(to,
                 std::span<const T>(std::ranges::data(stored), static_cast<std::size_t>(std::ranges::size(stored))));
  }
}

// ---- All other parameters: by value.

template <class P>
struct parameter_codec {
  using value = std::remove_cv_t<std::remove_reference_t<P>>;

  static constexpr verdict judge_parameter() {
    if constexpr (std::is_pointer_v<value> || std::is_member_pointer_v<value> || std::is_function_v<value> ||
                  std::is_array_v<value>) {
      return verdict::pointer_parameter;
    } else if constexpr (refers_to_memory<value>) {
      return verdict::view_parameter;
    } else if constexpr (is_mutable_reference<P>) {
      return verdict::lost_changes;
    } else if constexpr (!std::is_move_constructible_v<value> || !std::is_destructible_v<value>) {
      return verdict::immovable_parameter;
    } else {
      return judge_value<value>();
    }
  }
  template <class Arg>
  static constexpr verdict judge() {
    return std::is_convertible_v<Arg&&, value> ? verdict::ok : verdict::not_convertible;
  }

  template <class Arg>
  using stored = value;
  template <class Arg>
  static value store(Arg&& arg) {
    return static_cast<value>(std::forward<Arg>(arg));  // judge() has seen that it converts implicitly
  }
  static void put(packer& to, value& kept) { put_value(to, kept, direction::argument); }

  using holder = value;
  static holder get(unpacker& from) { return get_value<value>(from); }
  static P&& pass(holder& held) { return static_cast<P&&>(held); }
};

// ---- array<const T>, array<T>&, array<T>

template <class P>
  requires is_array<std::remove_cvref_t<P>>
struct parameter_codec<P> {
  using holder = std::remove_cvref_t<P>;
  using element = typename holder::element_type;
  using value_type = typename holder::value_type;
  static constexpr std::size_t rank = holder::rank();
  static constexpr bool reads = std::is_const_v<element>;
  static constexpr bool writes = !reads && is_mutable_reference<P>;

  static constexpr verdict judge_parameter() {
    return !reads && !writes && std::is_lvalue_reference_v<P> ? verdict::const_array_reference : verdict::ok;
  }
  template <class Arg>
  static constexpr bool same_shape() {
    if constexpr (array_of<Arg, value_type>) {
      return std::remove_cvref_t<Arg>::rank() == rank;
    } else {
      return false;
    }
  }
  template <class Arg>
  static constexpr verdict judge() {
    if constexpr (reads) {
      return same_shape<Arg>() || (rank == 1 && foreign_range_of<Arg, value_type>) ? verdict::ok
                                                                                   : verdict::not_readable;
    } else if constexpr (writes) {
      return std::is_same_v<Arg, holder&> ? verdict::ok : verdict::array_lvalue_needed;
    } else {
      return std::is_same_v<std::remove_cvref_t<Arg>, holder> ? verdict::ok : verdict::array_needed;
    }
  }

  template <class Arg>
  using stored = typename std::conditional_t<is_array<std::remove_cvref_t<Arg>>, std::type_identity<holder>,
                                             kept_range<value_type, Arg>>::type;
  template <class Arg>
  static stored<Arg> store(Arg&& arg) {
    if constexpr (is_array<std::remove_cvref_t<Arg>>) {
      return holder(std::forward<Arg>(arg));
    } else {
      return keep_range<value_type>(std::forward<Arg>(arg));
    }
  }
  template <class Stored>
  static void put(packer& to, Stored& kept) {
    if constexpr (reads) {
      put_readable<value_type>(to, kept);
    } else {
      put_array(to, kept, writes ? purpose::lend_write : purpose::give);
    }
  }

  static holder get(unpacker& from) { return get_array<element, rank>(from); }
  static P&& pass(holder& held) { return static_cast<P&&>(held); }
};

// ---- std::span<const T>, std::span<T>

template <class P>
  requires is_span<std::remove_cvref_t<P>>
struct parameter_codec<P> {
  using span = std::remove_cvref_t<P>;
  using element = typename span::element_type;
  using value_type = typename span::value_type;
  using holder = array<element, 1>;
  static constexpr bool reads = std::is_const_v<element>;
  static constexpr bool writes = !reads;

  static constexpr verdict judge_parameter() {
    return is_mutable_reference<P> ? verdict::lost_changes : judge_value<value_type>();
  }
  template <class Arg>
  static constexpr verdict judge() {
    if constexpr (reads) {
      return array_of<Arg, value_type> || foreign_range_of<Arg, value_type> ? verdict::ok : verdict::not_readable;
    } else if constexpr (array_of<Arg, value_type> && std::is_lvalue_reference_v<Arg>) {
      return std::is_same_v<typename std::remove_cvref_t<Arg>::element_type, value_type>
                 ? verdict::ok
                 : verdict::mutable_span_needs_array;
    } else {
      return verdict::mutable_span_needs_array;
    }
  }

  template <class Arg>
  using stored = typename std::conditional_t<is_array<std::remove_cvref_t<Arg>>, std::type_identity<holder>,
                                             kept_range<value_type, Arg>>::type;
  template <class Arg>
  static stored<Arg> store(Arg&& arg) {
    if constexpr (is_array<std::remove_cvref_t<Arg>>) {
      return holder(flat(arg));
    } else {
      return keep_range<value_type>(std::forward<Arg>(arg));
    }
  }
  template <class Stored>
  static void put(packer& to, Stored& kept) {
    if (span::extent != std::dynamic_extent && static_cast<std::size_t>(std::ranges::size(kept)) != span::extent) {
      throw std::invalid_argument(
          "shmpool: a std::span parameter with a fixed extent was given another number of elements");
    }
    if constexpr (reads) {
      put_readable<value_type>(to, kept);
    } else {
      put_array(to, kept, purpose::lend_write);
    }
  }

  static holder get(unpacker& from) {
    auto held = get_array<element, 1>(from);
    if (span::extent != std::dynamic_extent && held.size() != span::extent) {
      throw_protocol_violation("span with another number of elements than the function's");
    }
    return held;
  }
  static span pass(holder& held) { return span(held.data(), held.size()); }
};

// ---- std::vector of elements that may be copied as one block

template <class P>
  requires is_element_vector<std::remove_cvref_t<P>>
struct parameter_codec<P> {
  using holder = std::remove_cvref_t<P>;
  using value_type = typename holder::value_type;

  static constexpr verdict judge_parameter() {
    return is_mutable_reference<P> ? verdict::lost_changes : judge_value<value_type>();
  }
  template <class Arg>
  static constexpr bool elements = array_of<Arg, value_type> || foreign_range_of<Arg, value_type>;
  template <class Arg>
  static constexpr verdict judge() {
    return elements<Arg> || std::is_convertible_v<Arg&&, holder> ? verdict::ok : verdict::not_readable;
  }

  template <class Arg>
  struct stored_as : kept_range<value_type, Arg> {};
  template <class Arg>
    requires is_array<std::remove_cvref_t<Arg>>
  struct stored_as<Arg> : std::type_identity<array<const value_type, 1>> {};
  template <class Arg>
    requires(!elements<Arg>)
  struct stored_as<Arg> : std::type_identity<holder> {};
  template <class Arg>
  using stored = typename stored_as<Arg>::type;
  template <class Arg>
  static stored<Arg> store(Arg&& arg) {
    if constexpr (is_array<std::remove_cvref_t<Arg>>) {
      return stored<Arg>(flat(arg));
    } else if constexpr (elements<Arg>) {
      return keep_range<value_type>(std::forward<Arg>(arg));
    } else {
      return std::forward<Arg>(arg);
    }
  }
  template <class Stored>
  static void put(packer& to, Stored& kept) {
    put_readable<value_type>(to, kept);
  }

  static holder get(unpacker& from) { return get_vector<value_type>(from); }
  static P&& pass(holder& held) { return static_cast<P&&>(held); }
};

// ---- std::string_view: travels as a string

template <class P>
  requires is_string_view<std::remove_cvref_t<P>>
struct parameter_codec<P> {
  using view = std::remove_cvref_t<P>;
  using holder = std::basic_string<typename view::value_type, typename view::traits_type>;

  static constexpr verdict judge_parameter() { return is_mutable_reference<P> ? verdict::lost_changes : verdict::ok; }
  template <class Arg>
  static constexpr verdict judge() {
    return std::is_convertible_v<Arg&&, view> ? verdict::ok : verdict::not_convertible;
  }

  template <class Arg>
  using stored = holder;
  template <class Arg>
  static holder store(Arg&& arg) {
    if constexpr (std::is_same_v<Arg, holder>) {
      return std::forward<Arg>(arg);
    } else {
      return holder(static_cast<view>(arg));
    }
  }
  static void put(packer& to, holder& kept) { put_value(to, kept, direction::argument); }

  static holder get(unpacker& from) { return get_value<holder>(from); }
  static view pass(holder& held) { return held; }
};

/// An argument as submit() keeps it until the operation is initiated.
template <class P, class Arg>
struct stored_argument {
  using parameter = P;
  typename parameter_codec<P>::template stored<Arg> value;
};

}  // namespace shmpool::detail
