// Which types the members of an aggregate have, as far as C++20 can tell: it has no reflection, but an aggregate can be
// counted (how many initialisers does it take?) and taken apart (a structured binding for each).
//
// An initialiser is always written {}, which stands for one member of any type; an expression could also go into the
// first element of an array. Taking apart a miscounted aggregate does not compile, so callers ask countable<> first.
//
// Thread safety: nothing happens at run time.
#pragma once

#include <cstddef>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace shmpool::detail {

/// Members beyond these are not looked at.
inline constexpr std::size_t most_members = 32;

template <class... T>
struct member_list {};

/// Whether T{{}, {}, ..., probe} compiles: member number `Position` can be made from a Probe.
template <class T, class Probe, std::size_t Position>
inline constexpr bool accepts = false;
/// Whether T{{}, {}, ...} compiles, with `Count` times {}.
template <class T, std::size_t Count>
inline constexpr bool has_members = false;

// ---- The same text once for each number of members.

#define SHMPOOL_BRACES_0
#define SHMPOOL_BRACES_1 SHMPOOL_BRACES_0{},
#define SHMPOOL_BRACES_2 SHMPOOL_BRACES_1{},
#define SHMPOOL_BRACES_3 SHMPOOL_BRACES_2{},
#define SHMPOOL_BRACES_4 SHMPOOL_BRACES_3{},
#define SHMPOOL_BRACES_5 SHMPOOL_BRACES_4{},
#define SHMPOOL_BRACES_6 SHMPOOL_BRACES_5{},
#define SHMPOOL_BRACES_7 SHMPOOL_BRACES_6{},
#define SHMPOOL_BRACES_8 SHMPOOL_BRACES_7{},
#define SHMPOOL_BRACES_9 SHMPOOL_BRACES_8{},
#define SHMPOOL_BRACES_10 SHMPOOL_BRACES_9{},
#define SHMPOOL_BRACES_11 SHMPOOL_BRACES_10{},
#define SHMPOOL_BRACES_12 SHMPOOL_BRACES_11{},
#define SHMPOOL_BRACES_13 SHMPOOL_BRACES_12{},
#define SHMPOOL_BRACES_14 SHMPOOL_BRACES_13{},
#define SHMPOOL_BRACES_15 SHMPOOL_BRACES_14{},
#define SHMPOOL_BRACES_16 SHMPOOL_BRACES_15{},
#define SHMPOOL_BRACES_17 SHMPOOL_BRACES_16{},
#define SHMPOOL_BRACES_18 SHMPOOL_BRACES_17{},
#define SHMPOOL_BRACES_19 SHMPOOL_BRACES_18{},
#define SHMPOOL_BRACES_20 SHMPOOL_BRACES_19{},
#define SHMPOOL_BRACES_21 SHMPOOL_BRACES_20{},
#define SHMPOOL_BRACES_22 SHMPOOL_BRACES_21{},
#define SHMPOOL_BRACES_23 SHMPOOL_BRACES_22{},
#define SHMPOOL_BRACES_24 SHMPOOL_BRACES_23{},
#define SHMPOOL_BRACES_25 SHMPOOL_BRACES_24{},
#define SHMPOOL_BRACES_26 SHMPOOL_BRACES_25{},
#define SHMPOOL_BRACES_27 SHMPOOL_BRACES_26{},
#define SHMPOOL_BRACES_28 SHMPOOL_BRACES_27{},
#define SHMPOOL_BRACES_29 SHMPOOL_BRACES_28{},
#define SHMPOOL_BRACES_30 SHMPOOL_BRACES_29{},
#define SHMPOOL_BRACES_31 SHMPOOL_BRACES_30{},
#define SHMPOOL_BRACES_32 SHMPOOL_BRACES_31{},
#define SHMPOOL_BRACES_33 SHMPOOL_BRACES_32{},
#define SHMPOOL_NAMES_1 b0
#define SHMPOOL_NAMES_2 SHMPOOL_NAMES_1, b1
#define SHMPOOL_NAMES_3 SHMPOOL_NAMES_2, b2
#define SHMPOOL_NAMES_4 SHMPOOL_NAMES_3, b3
#define SHMPOOL_NAMES_5 SHMPOOL_NAMES_4, b4
#define SHMPOOL_NAMES_6 SHMPOOL_NAMES_5, b5
#define SHMPOOL_NAMES_7 SHMPOOL_NAMES_6, b6
#define SHMPOOL_NAMES_8 SHMPOOL_NAMES_7, b7
#define SHMPOOL_NAMES_9 SHMPOOL_NAMES_8, b8
#define SHMPOOL_NAMES_10 SHMPOOL_NAMES_9, b9
#define SHMPOOL_NAMES_11 SHMPOOL_NAMES_10, b10
#define SHMPOOL_NAMES_12 SHMPOOL_NAMES_11, b11
#define SHMPOOL_NAMES_13 SHMPOOL_NAMES_12, b12
#define SHMPOOL_NAMES_14 SHMPOOL_NAMES_13, b13
#define SHMPOOL_NAMES_15 SHMPOOL_NAMES_14, b14
#define SHMPOOL_NAMES_16 SHMPOOL_NAMES_15, b15
#define SHMPOOL_NAMES_17 SHMPOOL_NAMES_16, b16
#define SHMPOOL_NAMES_18 SHMPOOL_NAMES_17, b17
#define SHMPOOL_NAMES_19 SHMPOOL_NAMES_18, b18
#define SHMPOOL_NAMES_20 SHMPOOL_NAMES_19, b19
#define SHMPOOL_NAMES_21 SHMPOOL_NAMES_20, b20
#define SHMPOOL_NAMES_22 SHMPOOL_NAMES_21, b21
#define SHMPOOL_NAMES_23 SHMPOOL_NAMES_22, b22
#define SHMPOOL_NAMES_24 SHMPOOL_NAMES_23, b23
#define SHMPOOL_NAMES_25 SHMPOOL_NAMES_24, b24
#define SHMPOOL_NAMES_26 SHMPOOL_NAMES_25, b25
#define SHMPOOL_NAMES_27 SHMPOOL_NAMES_26, b26
#define SHMPOOL_NAMES_28 SHMPOOL_NAMES_27, b27
#define SHMPOOL_NAMES_29 SHMPOOL_NAMES_28, b28
#define SHMPOOL_NAMES_30 SHMPOOL_NAMES_29, b29
#define SHMPOOL_NAMES_31 SHMPOOL_NAMES_30, b30
#define SHMPOOL_NAMES_32 SHMPOOL_NAMES_31, b31
#define SHMPOOL_TYPES_1 decltype(b0)
#define SHMPOOL_TYPES_2 SHMPOOL_TYPES_1, decltype(b1)
#define SHMPOOL_TYPES_3 SHMPOOL_TYPES_2, decltype(b2)
#define SHMPOOL_TYPES_4 SHMPOOL_TYPES_3, decltype(b3)
#define SHMPOOL_TYPES_5 SHMPOOL_TYPES_4, decltype(b4)
#define SHMPOOL_TYPES_6 SHMPOOL_TYPES_5, decltype(b5)
#define SHMPOOL_TYPES_7 SHMPOOL_TYPES_6, decltype(b6)
#define SHMPOOL_TYPES_8 SHMPOOL_TYPES_7, decltype(b7)
#define SHMPOOL_TYPES_9 SHMPOOL_TYPES_8, decltype(b8)
#define SHMPOOL_TYPES_10 SHMPOOL_TYPES_9, decltype(b9)
#define SHMPOOL_TYPES_11 SHMPOOL_TYPES_10, decltype(b10)
#define SHMPOOL_TYPES_12 SHMPOOL_TYPES_11, decltype(b11)
#define SHMPOOL_TYPES_13 SHMPOOL_TYPES_12, decltype(b12)
#define SHMPOOL_TYPES_14 SHMPOOL_TYPES_13, decltype(b13)
#define SHMPOOL_TYPES_15 SHMPOOL_TYPES_14, decltype(b14)
#define SHMPOOL_TYPES_16 SHMPOOL_TYPES_15, decltype(b15)
#define SHMPOOL_TYPES_17 SHMPOOL_TYPES_16, decltype(b16)
#define SHMPOOL_TYPES_18 SHMPOOL_TYPES_17, decltype(b17)
#define SHMPOOL_TYPES_19 SHMPOOL_TYPES_18, decltype(b18)
#define SHMPOOL_TYPES_20 SHMPOOL_TYPES_19, decltype(b19)
#define SHMPOOL_TYPES_21 SHMPOOL_TYPES_20, decltype(b20)
#define SHMPOOL_TYPES_22 SHMPOOL_TYPES_21, decltype(b21)
#define SHMPOOL_TYPES_23 SHMPOOL_TYPES_22, decltype(b22)
#define SHMPOOL_TYPES_24 SHMPOOL_TYPES_23, decltype(b23)
#define SHMPOOL_TYPES_25 SHMPOOL_TYPES_24, decltype(b24)
#define SHMPOOL_TYPES_26 SHMPOOL_TYPES_25, decltype(b25)
#define SHMPOOL_TYPES_27 SHMPOOL_TYPES_26, decltype(b26)
#define SHMPOOL_TYPES_28 SHMPOOL_TYPES_27, decltype(b27)
#define SHMPOOL_TYPES_29 SHMPOOL_TYPES_28, decltype(b28)
#define SHMPOOL_TYPES_30 SHMPOOL_TYPES_29, decltype(b29)
#define SHMPOOL_TYPES_31 SHMPOOL_TYPES_30, decltype(b30)
#define SHMPOOL_TYPES_32 SHMPOOL_TYPES_31, decltype(b31)

#define SHMPOOL_POSITION(N)                                            \
  template <class T, class Probe>                                      \
    requires requires { T{SHMPOOL_BRACES_##N std::declval<Probe>()}; } \
  inline constexpr bool accepts<T, Probe, N> = true;                   \
  template <class T>                                                   \
    requires requires { T{SHMPOOL_BRACES_##N}; }                       \
  inline constexpr bool has_members<T, N> = true;
#define SHMPOOL_TAKE_APART(N)                                         \
  template <class T>                                                  \
  auto take_apart(std::integral_constant<std::size_t, N>, T& whole) { \
    [[maybe_unused]] auto& [SHMPOOL_NAMES_##N] = whole;               \
    return member_list<SHMPOOL_TYPES_##N>();                          \
  }

SHMPOOL_POSITION(0)
SHMPOOL_POSITION(1)
SHMPOOL_POSITION(2)
SHMPOOL_POSITION(3)
SHMPOOL_POSITION(4)
SHMPOOL_POSITION(5)
SHMPOOL_POSITION(6)
SHMPOOL_POSITION(7)
SHMPOOL_POSITION(8)
SHMPOOL_POSITION(9)
SHMPOOL_POSITION(10)
SHMPOOL_POSITION(11)
SHMPOOL_POSITION(12)
SHMPOOL_POSITION(13)
SHMPOOL_POSITION(14)
SHMPOOL_POSITION(15)
SHMPOOL_POSITION(16)
SHMPOOL_POSITION(17)
SHMPOOL_POSITION(18)
SHMPOOL_POSITION(19)
SHMPOOL_POSITION(20)
SHMPOOL_POSITION(21)
SHMPOOL_POSITION(22)
SHMPOOL_POSITION(23)
SHMPOOL_POSITION(24)
SHMPOOL_POSITION(25)
SHMPOOL_POSITION(26)
SHMPOOL_POSITION(27)
SHMPOOL_POSITION(28)
SHMPOOL_POSITION(29)
SHMPOOL_POSITION(30)
SHMPOOL_POSITION(31)
SHMPOOL_POSITION(32)
template <class T>
  requires requires { T{SHMPOOL_BRACES_33}; }
inline constexpr bool has_members<T, 33> = true;

SHMPOOL_TAKE_APART(1)
SHMPOOL_TAKE_APART(2)
SHMPOOL_TAKE_APART(3)
SHMPOOL_TAKE_APART(4)
SHMPOOL_TAKE_APART(5)
SHMPOOL_TAKE_APART(6)
SHMPOOL_TAKE_APART(7)
SHMPOOL_TAKE_APART(8)
SHMPOOL_TAKE_APART(9)
SHMPOOL_TAKE_APART(10)
SHMPOOL_TAKE_APART(11)
SHMPOOL_TAKE_APART(12)
SHMPOOL_TAKE_APART(13)
SHMPOOL_TAKE_APART(14)
SHMPOOL_TAKE_APART(15)
SHMPOOL_TAKE_APART(16)
SHMPOOL_TAKE_APART(17)
SHMPOOL_TAKE_APART(18)
SHMPOOL_TAKE_APART(19)
SHMPOOL_TAKE_APART(20)
SHMPOOL_TAKE_APART(21)
SHMPOOL_TAKE_APART(22)
SHMPOOL_TAKE_APART(23)
SHMPOOL_TAKE_APART(24)
SHMPOOL_TAKE_APART(25)
SHMPOOL_TAKE_APART(26)
SHMPOOL_TAKE_APART(27)
SHMPOOL_TAKE_APART(28)
SHMPOOL_TAKE_APART(29)
SHMPOOL_TAKE_APART(30)
SHMPOOL_TAKE_APART(31)
SHMPOOL_TAKE_APART(32)

#undef SHMPOOL_POSITION
#undef SHMPOOL_TAKE_APART
#undef SHMPOOL_BRACES_0
#undef SHMPOOL_BRACES_1
#undef SHMPOOL_BRACES_2
#undef SHMPOOL_BRACES_3
#undef SHMPOOL_BRACES_4
#undef SHMPOOL_BRACES_5
#undef SHMPOOL_BRACES_6
#undef SHMPOOL_BRACES_7
#undef SHMPOOL_BRACES_8
#undef SHMPOOL_BRACES_9
#undef SHMPOOL_BRACES_10
#undef SHMPOOL_BRACES_11
#undef SHMPOOL_BRACES_12
#undef SHMPOOL_BRACES_13
#undef SHMPOOL_BRACES_14
#undef SHMPOOL_BRACES_15
#undef SHMPOOL_BRACES_16
#undef SHMPOOL_BRACES_17
#undef SHMPOOL_BRACES_18
#undef SHMPOOL_BRACES_19
#undef SHMPOOL_BRACES_20
#undef SHMPOOL_BRACES_21
#undef SHMPOOL_BRACES_22
#undef SHMPOOL_BRACES_23
#undef SHMPOOL_BRACES_24
#undef SHMPOOL_BRACES_25
#undef SHMPOOL_BRACES_26
#undef SHMPOOL_BRACES_27
#undef SHMPOOL_BRACES_28
#undef SHMPOOL_BRACES_29
#undef SHMPOOL_BRACES_30
#undef SHMPOOL_BRACES_31
#undef SHMPOOL_BRACES_32
#undef SHMPOOL_BRACES_33
#undef SHMPOOL_NAMES_1
#undef SHMPOOL_TYPES_1
#undef SHMPOOL_NAMES_2
#undef SHMPOOL_TYPES_2
#undef SHMPOOL_NAMES_3
#undef SHMPOOL_TYPES_3
#undef SHMPOOL_NAMES_4
#undef SHMPOOL_TYPES_4
#undef SHMPOOL_NAMES_5
#undef SHMPOOL_TYPES_5
#undef SHMPOOL_NAMES_6
#undef SHMPOOL_TYPES_6
#undef SHMPOOL_NAMES_7
#undef SHMPOOL_TYPES_7
#undef SHMPOOL_NAMES_8
#undef SHMPOOL_TYPES_8
#undef SHMPOOL_NAMES_9
#undef SHMPOOL_TYPES_9
#undef SHMPOOL_NAMES_10
#undef SHMPOOL_TYPES_10
#undef SHMPOOL_NAMES_11
#undef SHMPOOL_TYPES_11
#undef SHMPOOL_NAMES_12
#undef SHMPOOL_TYPES_12
#undef SHMPOOL_NAMES_13
#undef SHMPOOL_TYPES_13
#undef SHMPOOL_NAMES_14
#undef SHMPOOL_TYPES_14
#undef SHMPOOL_NAMES_15
#undef SHMPOOL_TYPES_15
#undef SHMPOOL_NAMES_16
#undef SHMPOOL_TYPES_16
#undef SHMPOOL_NAMES_17
#undef SHMPOOL_TYPES_17
#undef SHMPOOL_NAMES_18
#undef SHMPOOL_TYPES_18
#undef SHMPOOL_NAMES_19
#undef SHMPOOL_TYPES_19
#undef SHMPOOL_NAMES_20
#undef SHMPOOL_TYPES_20
#undef SHMPOOL_NAMES_21
#undef SHMPOOL_TYPES_21
#undef SHMPOOL_NAMES_22
#undef SHMPOOL_TYPES_22
#undef SHMPOOL_NAMES_23
#undef SHMPOOL_TYPES_23
#undef SHMPOOL_NAMES_24
#undef SHMPOOL_TYPES_24
#undef SHMPOOL_NAMES_25
#undef SHMPOOL_TYPES_25
#undef SHMPOOL_NAMES_26
#undef SHMPOOL_TYPES_26
#undef SHMPOOL_NAMES_27
#undef SHMPOOL_TYPES_27
#undef SHMPOOL_NAMES_28
#undef SHMPOOL_TYPES_28
#undef SHMPOOL_NAMES_29
#undef SHMPOOL_TYPES_29
#undef SHMPOOL_NAMES_30
#undef SHMPOOL_TYPES_30
#undef SHMPOOL_NAMES_31
#undef SHMPOOL_TYPES_31
#undef SHMPOOL_NAMES_32
#undef SHMPOOL_TYPES_32

template <class T, std::size_t Position = most_members + 1>
consteval std::size_t last_member() {
  if constexpr (Position == 0 || has_members<T, Position>) {
    return Position;
  } else {
    return last_member<T, Position - 1>();
  }
}

/// The number of members (and bases) of an aggregate. It is too small where a member cannot be made from {} (see
/// countable), and most_members + 1 where there are more.
template <class T, std::size_t AtLeast = 0>
consteval std::size_t count_members() {
  if constexpr (AtLeast == most_members + 1) {
    return AtLeast;
  } else if constexpr (has_members<T, AtLeast + 1>) {
    return count_members<T, AtLeast + 1>();
  } else if constexpr (std::is_copy_assignable_v<T>) {
    return AtLeast;
  } else {
    return last_member<T>();  // where there are references, all of them must be given
  }
}

// ---- Probes: objects that convert to some types and not to others. They are only declared.

namespace probe {

struct value {
  template <class U>
  operator U() const;
};
struct reference {
  template <class U>
  operator U&() const;
};
/// Converts to nothing. A member that accepts this probe accepts anything, so a probe says nothing about its type.
struct nothing {};
template <class T, bool Empty>
struct base_of {
  template <class U>
    requires(std::is_base_of_v<U, T> && !std::is_same_v<U, T> && (!Empty || std::is_empty_v<U>))
  operator U&() const;
};

template <class U>
consteval bool has_no_name() {
  const std::string_view text = __PRETTY_FUNCTION__;
  for (const char* each : {"<unnamed ", "<anonymous ", "(unnamed ", "(anonymous struct", "(anonymous class"}) {
    if (text.find(each) != std::string_view::npos) return true;
  }
  return false;
}
/// The members of an anonymous union or struct are members of the enclosing class, so no name can be bound to the union
/// or struct. C++ cannot tell whether one is anonymous: this probe also converts to a named member that is a union, or
/// a struct without a type name.
struct maybe_anonymous {
  template <class U>
    requires(std::is_union_v<U> || (std::is_class_v<U> && has_no_name<U>()))
  operator U() const;
};

}  // namespace probe

template <class T>
concept has_bases = accepts<T, probe::base_of<T, false>, 0>;  // or a first member that accepts anything

/// Bases without members of their own come first and are left out.
template <class T, std::size_t Position = 0>
consteval std::size_t count_empty_bases() {
  if constexpr (accepts<T, probe::base_of<T, true>, Position>) return count_empty_bases<T, Position + 1>();
  return Position;
}

template <class T, std::size_t... Position>
consteval bool each_is_ordinary(std::index_sequence<Position...>) {
  return ((!accepts<T, probe::nothing, Position> && !accepts<T, probe::maybe_anonymous, Position> &&
           (!has_members<T, Position + 1> || accepts<T, probe::value, Position> ||
            accepts<T, probe::reference, Position>)) &&
          ...);
}

template <class T>
consteval bool can_be_taken_apart() {
  if constexpr (!std::is_class_v<T> || !std::is_aggregate_v<T>) {
    return false;
  } else if constexpr (probe::has_no_name<T>()) {
    return false;  // perhaps that of an anonymous struct
  } else if constexpr (requires { std::tuple_size<T>::value; }) {
    return false;  // a structured binding would use std::tuple_size
  } else {
    constexpr std::size_t count = count_members<T>();
    constexpr std::size_t bases = count_empty_bases<T>();
    if constexpr (count <= bases || count > most_members) {
      return false;
    } else if constexpr (accepts<T, probe::value, count> || accepts<T, probe::reference, count>) {
      return false;  // there are more
    } else if constexpr (bases == 0 && has_bases<T>) {
      return false;
    } else if constexpr (accepts<T, probe::base_of<T, false>, bases>) {
      return false;  // another base, with members
    } else {
      return each_is_ordinary<T>(std::make_index_sequence<count>());
    }
  }
}

/// An aggregate whose members' types are known.
template <class T>
concept countable = can_be_taken_apart<T>();

/// The declared types of the members, references and qualifiers included, as a member_list.
template <countable T>
using members_of = decltype(take_apart(
    std::integral_constant<std::size_t, count_members<T>() - count_empty_bases<T>()>(), std::declval<T&>()));

}  // namespace shmpool::detail
