// Whether a value holds an address anywhere: in itself, or in an object that a standard container or pointer holds.
// Types with cereal functions are trusted.
//
// Thread safety: nothing happens at run time.
#pragma once

#include <shmpool/serialize.hpp>

#include <deque>
#include <forward_list>
#include <list>
#include <map>
#include <memory>
#include <queue>
#include <set>
#include <stack>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <valarray>
#include <vector>

namespace shmpool::detail {

/// The parts of a standard class that cereal writes one by one; allocators, comparators and deleters are left out.
template <class T>
struct parts_of {
  static constexpr bool known = false;
};
template <class... T>
struct has_parts {
  static constexpr bool known = true;
  using parts = member_list<T...>;
};
template <class T, class... Rest>
struct parts_of<std::vector<T, Rest...>> : has_parts<T> {};
template <class T, class... Rest>
struct parts_of<std::deque<T, Rest...>> : has_parts<T> {};
template <class T, class... Rest>
struct parts_of<std::list<T, Rest...>> : has_parts<T> {};
template <class T, class... Rest>
struct parts_of<std::forward_list<T, Rest...>> : has_parts<T> {};
template <class T, class... Rest>
struct parts_of<std::set<T, Rest...>> : has_parts<T> {};
template <class T, class... Rest>
struct parts_of<std::multiset<T, Rest...>> : has_parts<T> {};
template <class T, class... Rest>
struct parts_of<std::unordered_set<T, Rest...>> : has_parts<T> {};
template <class T, class... Rest>
struct parts_of<std::unordered_multiset<T, Rest...>> : has_parts<T> {};
template <class K, class T, class... Rest>
struct parts_of<std::map<K, T, Rest...>> : has_parts<K, T> {};
template <class K, class T, class... Rest>
struct parts_of<std::multimap<K, T, Rest...>> : has_parts<K, T> {};
template <class K, class T, class... Rest>
struct parts_of<std::unordered_map<K, T, Rest...>> : has_parts<K, T> {};
template <class K, class T, class... Rest>
struct parts_of<std::unordered_multimap<K, T, Rest...>> : has_parts<K, T> {};
template <class T, class... Rest>
struct parts_of<std::stack<T, Rest...>> : has_parts<T> {};
template <class T, class... Rest>
struct parts_of<std::queue<T, Rest...>> : has_parts<T> {};
template <class T, class... Rest>
struct parts_of<std::priority_queue<T, Rest...>> : has_parts<T> {};
template <class T>
struct parts_of<std::valarray<T>> : has_parts<T> {};
template <class T>
struct parts_of<std::optional<T>> : has_parts<T> {};
template <class T, std::size_t N>
struct parts_of<std::array<T, N>> : has_parts<T> {};
template <class A, class B>
struct parts_of<std::pair<A, B>> : has_parts<A, B> {};
template <class... T>
struct parts_of<std::tuple<T...>> : has_parts<T...> {};
template <class... T>
struct parts_of<std::variant<T...>> : has_parts<T...> {};
template <class T, class... Rest>
struct parts_of<std::unique_ptr<T, Rest...>> : has_parts<T> {};
template <class T>
struct parts_of<std::shared_ptr<T>> : has_parts<T> {};
template <class T>
struct parts_of<std::weak_ptr<T>> : has_parts<T> {};

template <class T>
struct value_search;

template <class... T>
struct first_in_values {
  using type = void;
};
template <class T, class... Rest>
struct first_in_values<T, Rest...>
    : std::conditional_t<std::is_void_v<typename value_search<std::remove_cv_t<T>>::type>, first_in_values<Rest...>,
                         value_search<std::remove_cv_t<T>>> {};
template <class... T>
first_in_values<T...> first_in_parts(member_list<T...>);

template <class T>
consteval auto search_value() {
  if constexpr (std::is_pointer_v<T> || std::is_member_pointer_v<T>) {
    return std::type_identity<T>();
  } else if constexpr (!(std::is_class_v<T> || std::is_union_v<T>) || error_code_type<T>) {
    return std::type_identity<void>();
  } else if constexpr (!requires { sizeof(T); }) {
    return std::type_identity<void>();
  } else if constexpr (parts_of<T>::known) {
    return std::type_identity<typename decltype(first_in_parts(typename parts_of<T>::parts()))::type>();
  } else if constexpr (untaught_address_class<T>) {
    return std::type_identity<T>();
  } else if constexpr (bitwise<T>) {
    return std::type_identity<address_in<T>>();
  } else {
    return std::type_identity<void>();
  }
}

template <class T>
struct value_search {
  using type = typename decltype(search_value<T>())::type;
};

/// The first address in a value that would travel; void if none is known.
template <class T>
using address_in_value_t = typename value_search<std::remove_cvref_t<T>>::type;

template <class T>
constexpr verdict judge_value() {
  return verdict_on_address<address_in_value_t<T>>;
}

}  // namespace shmpool::detail
