// Which trivially copyable types hold an address, or another thing that means nothing in another process: their bytes
// must not travel. The compiler knows of scalars, of the standard types listed here, and of the members of aggregates;
// C++20 cannot tell the members of a class with a constructor or with private members.
//
// The search errs on one side only: a type that is refused does hold an address.
//
// Thread safety: nothing happens at run time.
#pragma once

#include <shmpool/detail/codec/error_code_codec.hpp>
#include <shmpool/detail/codec/members.hpp>

#include <array>
#include <atomic>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <memory_resource>
#include <optional>
#include <ranges>
#include <source_location>
#include <string_view>
#include <system_error>
#include <thread>
#include <tuple>
#include <type_traits>
#include <typeindex>
#include <utility>
#include <variant>
#include <vector>
#include <version>
#if defined(__cpp_lib_expected)
#include <expected>
#endif

namespace shmpool::detail {

/// Views that do not own their elements. iota_view and empty_view hold all that they show.
template <class T>
inline constexpr bool is_view_of_memory = std::ranges::enable_view<T> && std::ranges::enable_borrowed_range<T>;
template <class T, class Bound>
inline constexpr bool is_view_of_memory<std::ranges::iota_view<T, Bound>> = false;
template <class T>
inline constexpr bool is_view_of_memory<std::ranges::empty_view<T>> = false;

/// Standard classes that refer to something of this process, and error codes.
template <class T>
inline constexpr bool is_address_class = error_code_type<T> || is_view_of_memory<T>;
template <class T>
inline constexpr bool is_address_class<std::reference_wrapper<T>> = true;
template <class T>
inline constexpr bool is_address_class<std::initializer_list<T>> = true;
template <class T>
inline constexpr bool is_address_class<std::coroutine_handle<T>> = true;
template <class T>
inline constexpr bool is_address_class<std::atomic_ref<T>> = true;
template <class T>
inline constexpr bool is_address_class<std::pmr::polymorphic_allocator<T>> = true;
template <class T>
inline constexpr bool is_address_class<std::back_insert_iterator<T>> = true;
template <class T>
inline constexpr bool is_address_class<std::front_insert_iterator<T>> = true;
template <class T>
inline constexpr bool is_address_class<std::insert_iterator<T>> = true;
template <class T, class... Rest>
inline constexpr bool is_address_class<std::istream_iterator<T, Rest...>> = true;
template <class T, class... Rest>
inline constexpr bool is_address_class<std::ostream_iterator<T, Rest...>> = true;
template <class T, class... Rest>
inline constexpr bool is_address_class<std::istreambuf_iterator<T, Rest...>> = true;
template <class T, class... Rest>
inline constexpr bool is_address_class<std::ostreambuf_iterator<T, Rest...>> = true;
template <>
inline constexpr bool is_address_class<std::vector<bool>::iterator> = true;
template <>
inline constexpr bool is_address_class<std::vector<bool>::const_iterator> = true;
template <>
inline constexpr bool is_address_class<std::vector<bool>::reference> = true;
template <>
inline constexpr bool is_address_class<std::type_index> = true;
template <>
inline constexpr bool is_address_class<std::source_location> = true;
template <>
inline constexpr bool is_address_class<std::thread::id> = true;

/// Iterators whose elements are elsewhere: one that can be copied and give the same element again does not hold it.
template <class T>
concept iterator_into_memory = std::forward_iterator<T> && std::is_reference_v<std::iter_reference_t<T>>;

/// Types that have a category as error codes do, and are no known error code: a class derived from one, say. The
/// category has virtual functions, so it cannot be a member of a trivially copyable class.
template <class T>
concept has_error_category = requires(const T& code) {
  { code.value() } -> std::convertible_to<int>;
  { code.category().name() } -> std::convertible_to<const char*>;
  requires std::is_lvalue_reference_v<decltype(code.category())>;
  requires std::is_polymorphic_v<std::remove_cvref_t<decltype(code.category())>>;
};

template <class T>
struct address_search;

/// The first part of T that holds an address: T itself, or a part of a part of it. void if none is known.
template <class T>
using address_in = typename address_search<std::remove_cv_t<T>>::type;
template <class T>
concept holds_address = !std::is_void_v<address_in<T>>;

template <class... T>
struct first_address {
  using type = void;
};
template <class T, class... Rest>
struct first_address<T, Rest...>
    : std::conditional_t<holds_address<T>, address_search<std::remove_cv_t<T>>, first_address<Rest...>> {};

/// Standard templates that hold objects of their argument types.
template <class T>
struct standard_parts;
template <class... T>
struct standard_parts<std::tuple<T...>> : first_address<T...> {};
template <class... T>
struct standard_parts<std::variant<T...>> : first_address<T...> {};
template <class A, class B>
struct standard_parts<std::pair<A, B>> : first_address<A, B> {};
template <class T>
struct standard_parts<std::optional<T>> : first_address<T> {};
template <class T, std::size_t N>
struct standard_parts<std::array<T, N>> : first_address<T> {};
#if defined(__cpp_lib_expected)
template <class T, class E>
struct standard_parts<std::expected<T, E>> : first_address<T, E> {};
#endif

template <class T>
concept made_of_standard_parts = requires { typename standard_parts<T>::type; };

/// The template arguments of a class that is no aggregate, such as the result types of other libraries: one that is
/// given an error code or a view holds it. A pointer may also be a mere tag, and so may a type that is not complete.
template <class... Arguments>
struct first_address_class {
  using type = void;
};
template <class First, class... Rest>
struct first_address_class<First, Rest...> : first_address_class<Rest...> {};
template <class First, class... Rest>
  requires(sizeof(First) != 0 && is_address_class<First>)
struct first_address_class<First, Rest...> {
  using type = First;
};

template <class T>
struct address_class_argument {
  using type = void;
};
template <template <class...> class Template, class... Arguments>
struct address_class_argument<Template<Arguments...>> : first_address_class<Arguments...> {};

namespace probe {

struct address {
  template <class U>
    requires holds_address<U>
  operator U() const;
};
template <class T>
struct base_with_address {
  template <class U>
    requires(std::is_base_of_v<U, T> && !std::is_same_v<U, T> && holds_address<U>)
  operator U&() const;
};

}  // namespace probe

template <class T, std::size_t... Position>
consteval bool a_base_holds_address(std::index_sequence<Position...>) {
  return ((accepts<T, probe::base_with_address<T>, Position> && !accepts<T, probe::nothing, Position>) || ...);
}
/// Constructors that are templates may take the probe as well, so this is a reason to look closer, not to refuse.
template <class T, std::size_t... Position>
consteval bool a_member_may_hold_address(std::index_sequence<Position...>) {
  return (accepts<T, probe::address, Position> || ...);
}

template <class... Member>
first_address<Member...> first_address_of(member_list<Member...>);

template <class T>
consteval auto search_members() {
  constexpr std::size_t count = count_members<T>();
  constexpr auto each = std::make_index_sequence<(count < most_members ? count : most_members)>();
  if constexpr (a_base_holds_address<T>(each)) {
    return std::type_identity<T>();
  } else if constexpr (count < most_members && accepts<T, probe::reference, count> &&
                       !accepts<T, probe::value, count> && !accepts<T, probe::nothing, count>) {
    return std::type_identity<T>();  // a member that only an object elsewhere can initialise: a reference
  } else if constexpr (a_member_may_hold_address<T>(each) || !std::is_copy_assignable_v<T>) {
    if constexpr (countable<T>) {
      return std::type_identity<typename decltype(first_address_of(members_of<T>()))::type>();
    } else {
      return std::type_identity<void>();
    }
  } else {
    return std::type_identity<void>();
  }
}

template <class T>
consteval auto search_address() {
  if constexpr (std::is_pointer_v<T> || std::is_member_pointer_v<T> || std::is_reference_v<T> ||
                std::is_function_v<T>) {
    return std::type_identity<T>();
  } else if constexpr (std::is_array_v<T>) {
    return std::type_identity<address_in<std::remove_all_extents_t<T>>>();
  } else if constexpr (!std::is_class_v<T>) {
    return std::type_identity<void>();
  } else if constexpr (is_address_class<T>) {
    return std::type_identity<T>();
  } else if constexpr (made_of_standard_parts<T>) {
    return std::type_identity<typename standard_parts<T>::type>();
  } else if constexpr (std::is_aggregate_v<T> && std::is_trivially_copyable_v<T>) {
    return search_members<T>();
  } else if constexpr (iterator_into_memory<T>) {
    return std::type_identity<T>();
  } else if constexpr (!std::is_trivially_copyable_v<T> || std::is_empty_v<T>) {
    return std::type_identity<void>();
  } else if constexpr (has_error_category<T>) {
    return std::type_identity<T>();
  } else {
    return std::type_identity<typename address_class_argument<T>::type>();
  }
}

template <class T>
struct address_search {
  using type = typename decltype(search_address<T>())::type;
};

}  // namespace shmpool::detail
