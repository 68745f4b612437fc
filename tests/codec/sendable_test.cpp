// The verdicts on values that hold an address, alone and nested, as parameters and as results; and on those that were
// taught cereal, which are trusted.
#include <shmpool/detail/codec/callable.hpp>

#include <gtest/gtest.h>

#include <array>
#include <coroutine>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <typeindex>
#include <unordered_map>
#include <utility>
#include <valarray>
#include <variant>
#include <vector>

namespace {

using shmpool::detail::verdict;

template <class T>
constexpr verdict as_parameter = shmpool::detail::parameter_codec<T>::judge_parameter();
template <class T>
constexpr verdict as_result = shmpool::detail::result_codec<T>::judge();
template <class T>
constexpr bool refused_both_ways =
    as_parameter<T> == verdict::address_in_value && as_result<T> == verdict::address_in_value;
template <class T>
constexpr bool fine_both_ways = as_parameter<T> == verdict::ok && as_result<T> == verdict::ok;

struct named {
  int number;
  const char* name;
};
struct taught {  // sends what it points to
  const char* text = nullptr;
  template <class Archive>
  void save(Archive& archive) const {
    archive(std::string(text));
  }
  template <class Archive>
  void load(Archive&) {}
};
struct holds_taught {
  taught one;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(one);
  }
};
struct plain {
  double x, y;
  char text[16];
};
struct node {
  int value = 0;
  std::vector<node> children;
  std::unique_ptr<node> next;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(value, children, next);
  }
};
struct abstract {
  virtual ~abstract() = default;
  virtual void run() = 0;
};

// What refers to memory was refused before, and why is said as before.
static_assert(as_parameter<int*> == verdict::pointer_parameter && as_result<const char*> == verdict::pointer_result);
static_assert(as_parameter<std::span<int>> == verdict::ok && as_result<std::span<int>> == verdict::view_result);
static_assert(as_parameter<std::string_view> == verdict::ok && as_result<std::wstring_view> == verdict::view_result);
static_assert(as_parameter<std::wstring_view> == verdict::ok && as_parameter<std::u16string_view> == verdict::ok);
static_assert(as_parameter<std::reference_wrapper<int>> == verdict::view_parameter);
static_assert(as_parameter<std::coroutine_handle<>> == verdict::view_parameter);

static_assert(as_parameter<std::source_location> == verdict::address_in_value && refused_both_ways<std::thread::id>);
static_assert(as_parameter<std::type_index> == verdict::address_in_value);
static_assert(refused_both_ways<std::vector<int>::iterator> && refused_both_ways<std::list<int>::iterator>);
static_assert(refused_both_ways<named> && refused_both_ways<std::vector<named>> &&
              refused_both_ways<std::optional<named>>);
static_assert(as_parameter<std::span<const named>> == verdict::address_in_value);
static_assert(as_parameter<const std::vector<named>&> == verdict::address_in_value);
static_assert(refused_both_ways<std::vector<const char*>> && refused_both_ways<std::vector<std::string_view>>);
static_assert(refused_both_ways<std::pair<int, const char*>> && refused_both_ways<std::tuple<std::string, void*>>);
static_assert(refused_both_ways<std::map<std::string_view, int>> && refused_both_ways<std::map<int, std::set<int*>>>);
static_assert(refused_both_ways<std::unordered_map<int, std::deque<std::span<int>>>>);
static_assert(refused_both_ways<std::variant<int, std::wstring_view>> && refused_both_ways<std::array<int*, 2>>);
static_assert(refused_both_ways<std::unique_ptr<named>> && refused_both_ways<std::shared_ptr<std::string_view>>);
static_assert(refused_both_ways<std::queue<int*>> && refused_both_ways<std::vector<std::vector<std::type_index>>>);
static_assert(refused_both_ways<std::vector<void (*)()>> && refused_both_ways<std::optional<int plain::*>>);

static_assert(fine_both_ways<taught> && fine_both_ways<std::vector<taught>> && fine_both_ways<holds_taught>);
static_assert(fine_both_ways<plain> && fine_both_ways<std::vector<plain>> && fine_both_ways<std::optional<plain>>);
static_assert(fine_both_ways<node> && fine_both_ways<std::unique_ptr<node>> && fine_both_ways<std::map<int, node>>);
static_assert(fine_both_ways<std::unique_ptr<abstract>> && fine_both_ways<std::shared_ptr<abstract>>);
static_assert(fine_both_ways<std::valarray<double>> && fine_both_ways<std::priority_queue<int>>);
static_assert(fine_both_ways<std::vector<shmpool::array<const double>>> && fine_both_ways<std::vector<std::u32string>>);

// A call that is refused is no candidate, so that overloads and concepts can ask.
int count(const std::vector<named>& x) {
  return static_cast<int>(x.size());
}
static_assert(!shmpool::detail::callable_with<decltype(count)&, std::vector<named>&>);
static_assert(shmpool::detail::callable_with<decltype([](const auto& x) { return x.x; })&, plain&>);
static_assert(!shmpool::detail::callable_with<decltype([](const auto& x) { return x.number; })&, named&>);

TEST(sendable_types, is_judged_by_the_compiler) {
  EXPECT_EQ(count({{1, "one"}}), 1);  // here it is an ordinary function
}

}  // namespace
