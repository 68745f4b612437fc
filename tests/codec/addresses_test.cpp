// Which types hold an address, and above all which do not: a refusal of a type that may well travel as its bytes would
// be worse than a pointer that nobody noticed.
#include <shmpool/detail/codec/addresses.hpp>

#include <gtest/gtest.h>

#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>

#include <array>
#include <bitset>
#include <charconv>
#include <chrono>
#include <compare>
#include <complex>
#include <cstdint>
#include <ctime>
#include <deque>
#include <iterator>
#include <list>
#include <map>
#include <optional>
#include <random>
#include <ranges>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace {

using shmpool::detail::address_in;
using shmpool::detail::countable;
using shmpool::detail::holds_address;
using shmpool::detail::member_list;
using shmpool::detail::members_of;

// ---- What holds one, alone.

struct incomplete;
struct some {
  int value;
  void call();
};

static_assert(holds_address<int*> && holds_address<const char*> && holds_address<void*> && holds_address<incomplete*>);
static_assert(holds_address<void (*)()> && holds_address<int some::*> && holds_address<void (some::*)()>);
static_assert(holds_address<const char* const> && holds_address<int&> && holds_address<char* [3][4]>);
static_assert(holds_address<std::string_view> && holds_address<std::wstring_view> && holds_address<std::u8string_view>);
static_assert(holds_address<std::span<int>> && holds_address<std::span<const double, 3>>);
static_assert(holds_address<std::reference_wrapper<int>> && holds_address<std::initializer_list<int>>);
static_assert(holds_address<std::type_index> && holds_address<std::source_location> && holds_address<std::thread::id>);
static_assert(holds_address<std::coroutine_handle<>> && holds_address<std::pmr::polymorphic_allocator<int>>);
static_assert(holds_address<std::error_code> && holds_address<std::error_condition>);
static_assert(holds_address<std::vector<int>::iterator> && holds_address<std::list<int>::const_iterator>);
static_assert(holds_address<std::map<int, int>::iterator> && holds_address<std::deque<int>::iterator>);
static_assert(holds_address<std::string::iterator> && holds_address<std::reverse_iterator<const char*>>);
static_assert(holds_address<std::vector<bool>::iterator> && holds_address<std::back_insert_iterator<std::string>>);
static_assert(holds_address<std::ranges::subrange<int*>> && holds_address<std::ranges::ref_view<std::string>>);
static_assert(holds_address<std::optional<const char*>> && holds_address<std::variant<int, std::error_code>>);
static_assert(holds_address<std::tuple<int, int*>> && holds_address<std::array<std::string_view, 3>>);

// ---- Aggregates.

struct name_and_number {
  int number;
  const char* name;
};
struct code_within {
  std::error_code error;
  int attempts;
};
struct within {
  double before[3];
  name_and_number deep[2][2];
};
struct behind_a_buffer {
  char text[4096];
  double more[100'000];
  std::string_view view;
};
struct constant {
  const int number;
  const char* const name;
};
struct refers {
  int number;
  const int& other;
};
struct refers_only {
  int& other;
};
struct bits {
  unsigned a : 3;
  unsigned : 2;
  unsigned b : 11;
  void* pointer;
};
struct initialised {
  int a = 1;
  int b{2};
  const char* text = "text";
};
struct no_members {};
struct tagged : no_members {
  const char* text;
};
struct derived : name_and_number {
  int more;
};
struct of_parts {
  std::optional<std::array<std::pair<int, int>, 2>> a;
  std::array<std::tuple<char, std::optional<int*>>, 2> b;
};
struct of_iterators {
  std::vector<int>::const_iterator first, last;
};
struct empty_member {
  [[no_unique_address]] no_members nothing;
  int number;
  int some::*which;
};
template <class T>
struct generic {
  int number;
  T value;
};

static_assert(std::is_same_v<address_in<name_and_number>, const char*>);
static_assert(std::is_same_v<address_in<code_within>, std::error_code>);
static_assert(std::is_same_v<address_in<within>, const char*>);
static_assert(std::is_same_v<address_in<behind_a_buffer>, std::string_view>);
static_assert(std::is_same_v<address_in<constant>, const char*>);
static_assert(std::is_same_v<address_in<refers>, const int&>);
static_assert(holds_address<refers_only> && holds_address<bits> && holds_address<initialised>);
static_assert(holds_address<tagged> && holds_address<derived>);
static_assert(std::is_same_v<address_in<of_iterators>, std::vector<int>::const_iterator>);
static_assert(std::is_same_v<address_in<empty_member>, int some::*>);
static_assert(holds_address<generic<const char*>> && !holds_address<generic<long>>);
static_assert(holds_address<generic<generic<generic<std::span<int>>>>>);
static_assert(holds_address<std::from_chars_result> && holds_address<std::to_chars_result>);
static_assert(holds_address<std::tm>);  // tm_zone

// ---- Other libraries' classes, as far as their arguments tell.

template <class T, class Error>
class outcome {
 public:
  outcome() = default;
  explicit outcome(Error error) : error_(error) {}

 private:
  [[maybe_unused]] T value_{};
  [[maybe_unused]] Error error_{};
};
template <class Tag, class Number>
class strong_number {
 public:
  strong_number() = default;
  explicit strong_number(Number number) : number_(number) {}

 private:
  [[maybe_unused]] Number number_ = 0;
};
struct own_code : std::error_code {
  using std::error_code::error_code;
  int more = 0;
};
static_assert(holds_address<outcome<int, std::error_code>> && !holds_address<outcome<int, std::errc>>);
static_assert(!holds_address<strong_number<struct never_defined, long>>);
static_assert(!holds_address<strong_number<int*, long>> && !holds_address<strong_number<void, long>>);
static_assert(holds_address<own_code> && holds_address<generic<outcome<int, std::error_code>>>);

// ---- What holds none. Whatever is added here must stay.

enum class colour : unsigned char { red };
union word {
  std::uint64_t whole;
  unsigned char bytes[8];
};
struct pod {
  bool a;
  char b;
  signed char c;
  std::uint16_t d;
  colour e;
  long double f;
  char32_t g;
  std::byte h;
};
struct with_arrays {
  char text[256];
  double matrix[4][4];
  pod pods[3];
  std::array<int, 7> more;
};
struct with_union {
  int which;
  union {
    int number;
    float real;
  };
};
struct with_struct {
  int which;
  struct {
    int x, y;
  } position;
};
struct three {
  float x, y, z;
};
struct vector3 {
  union {
    three named;
    float all[3];
  };
};
struct union_member {
  word value;
  int after;
};
struct with_defaults {
  int a = 1;
  double b{0.5};
  std::chrono::nanoseconds timeout{100};
  std::optional<int> limit;
};
struct point {
  double x, y;
};
struct derived_clean : point {
  double z;
};
struct two_bases : no_members, point {
  int more;
};
struct constants {
  const int a;
  const double b[2];
  const point c;
};
struct unassignable {
  const int id;
  union {
    int number;
    float real;
  };
};
template <class Derived>
struct mixin {
 protected:
  ~mixin() = default;
};
struct mixed : mixin<mixed> {
  int value;
};
/// A text whose constructor takes whatever converts to a view: it would take a probe that converts to one, too.
struct fixed_text {
  fixed_text() = default;
  template <class Text>
    requires std::is_convertible_v<const Text&, std::string_view>
  fixed_text(const Text& text) : size(std::string_view(text).size()) {}
  std::size_t size = 0;
  char content[32]{};
};
/// One that takes anything at all.
struct greedy {
  greedy() = default;
  template <class T>
  greedy(T&&) {}
  int value = 0;
};
struct no_default {
  explicit no_default(int v) : value(v) {}
  int value;
};
struct explicit_default {
  explicit explicit_default() = default;
  int value = 0;
};
struct from_pointer {
  from_pointer(const char* text = nullptr) : length(text == nullptr ? 0 : 1) {}
  int length;
};
struct odd_members {
  fixed_text a;
  greedy b;
  from_pointer c;
  std::optional<fixed_text> d;
};
struct odd_and_constant {
  const int id;
  fixed_text a;
};
struct no_defaults {
  int before;
  no_default a;
  explicit_default b;
};
struct volatiles {
  volatile int a;
  int b;
};
struct padded {
  alignas(64) int a;
  char b;
  alignas(32) double c;
};
struct has_operators {  // counts, and is no iterator
  int value;
  has_operators& operator++() { return *this; }
  has_operators operator++(int) { return *this; }
  int operator*() const { return value; }
  std::ptrdiff_t operator-(has_operators) const { return 0; }
};
struct has_category {  // and no pointer to one
  int value() const { return 0; }
  int category() const { return number; }
  int number;
};
class holds_category {  // of another kind, and within itself
 public:
  struct kind {
    const char* name() const { return text; }
    char text[8];
  };
  holds_category() = default;
  explicit holds_category(int number) : number_(number) {}
  int value() const { return number_; }
  const kind& category() const { return kind_; }

 private:
  int number_ = 0;
  kind kind_{};
};
class counts {  // an input iterator that shows what it holds
 public:
  using value_type = int;
  using difference_type = std::ptrdiff_t;
  using iterator_concept = std::input_iterator_tag;
  counts() = default;
  explicit counts(int number) : number_(number) {}
  const int& operator*() const { return number_; }
  counts& operator++() { return ++number_, *this; }
  counts operator++(int) { return counts(number_++); }
  bool operator==(const counts&) const = default;

 private:
  int number_ = 0;
};
static_assert(std::input_iterator<counts>);
struct very_long {
  int a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, b0, b1, b2, b3, b4, b5, b6, b7, b8, b9;
  int c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, d0, d1, d2, d3, d4, d5, d6, d7, d8, d9;
};
struct just_as_long {
  int a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, b0, b1, b2, b3, b4, b5, b6, b7, b8, b9;
  int c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, d0;
  const char* last;
};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
struct with_anonymous_struct {
  struct {
    int x, y;
  };
  const int z;
};
struct with_flexible_array {
  int count;
  int elements[];
};
#pragma GCC diagnostic pop
struct tuple_like {
  int a;
  const char* b;
};

template <class... T>
inline constexpr bool none_holds_address = (!holds_address<T> && ...);

static_assert(none_holds_address<int, bool, double, colour, std::byte, std::nullptr_t, word, int[3][3]>);
static_assert(none_holds_address<pod, with_arrays, with_union, with_struct, vector3, union_member, with_defaults>);
static_assert(none_holds_address<point, derived_clean, two_bases, constants, unassignable, mixed, no_members>);
static_assert(none_holds_address<fixed_text, greedy, odd_members, odd_and_constant, no_defaults, volatiles, padded>);
static_assert(none_holds_address<with_anonymous_struct, with_flexible_array>);
static_assert(none_holds_address<has_operators, has_category, holds_category, counts, very_long, from_pointer,
                                 std::array<int, 0>>);
static_assert(none_holds_address<std::complex<double>, std::chrono::nanoseconds, std::chrono::system_clock::time_point,
                                 std::chrono::year_month_day, std::strong_ordering, std::bitset<100>, std::mt19937,
                                 std::optional<point>, std::variant<int, point>, std::tuple<int, double>,
                                 std::pair<int, char>, std::monostate, std::less<>, std::allocator<int>, std::errc,
                                 std::ranges::iota_view<int, int>, std::ranges::empty_view<int>, std::plus<int>>);
static_assert(none_holds_address<timespec, timeval, struct stat, epoll_event, std::div_t, std::mbstate_t, fpos_t>);
static_assert(
    none_holds_address<std::string, std::vector<int*>, std::unique_ptr<int>>);  // these do not travel as bytes

// A lambda with captures is no aggregate: what it holds cannot be known.
static_assert([](int* pointer) { return !holds_address<decltype([pointer] { return pointer; })>; }(nullptr));

// ---- Members.

static_assert(std::is_same_v<members_of<constant>, member_list<const int, const char* const>>);
static_assert(std::is_same_v<members_of<tagged>, member_list<const char*>>);
static_assert(std::is_same_v<members_of<within>, member_list<double[3], name_and_number[2][2]>>);
static_assert(countable<just_as_long> && holds_address<just_as_long> && !countable<very_long>);
static_assert(!countable<with_union> && !countable<vector3> && !countable<derived_clean> && !countable<mixed>);

TEST(addresses, are_found_by_the_compiler) {
  SUCCEED();  // if this file compiles
}

}  // namespace

template <>
struct std::tuple_size<tuple_like> : std::integral_constant<std::size_t, 1> {};
template <>
struct std::tuple_element<0, tuple_like> {
  using type = int;
};

static_assert(!holds_address<tuple_like>);  // what a structured binding says is up to its author
