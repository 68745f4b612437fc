// What can be submitted, and how the pool tells a last argument from a completion token.
#include "support/round_trip.hpp"

#include <shmpool/error.hpp>

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

namespace {

using shmpool::array;
using shmpool::detail::callable_with;
using shmpool::detail::task_for;
using shmpool::testing::round_trip;

int nothing() {
  return 7;
}
int quiet(int x) noexcept {
  return x + 1;
}
int ten(int a, int b, int c, int d, int e, int f, int g, int h, int i, const std::string& j) {
  return a + b + c + d + e + f + g + h + i + static_cast<int>(j.size());
}

template <class... T>
long sum(T... x) {
  return (0L + ... + x);
}

TEST(callables, functions_of_any_arity) {
  round_trip submit;
  EXPECT_EQ(submit(nothing), 7);
  EXPECT_EQ(submit(&quiet, 1), 2);
  EXPECT_EQ(submit(ten, 1, 2, 3, 4, 5, 6, 7, 8, 9, "five!"), 50);
  EXPECT_EQ(submit(sum<int, short, long>, 1, short{2}, 3L), 6);
  EXPECT_EQ(submit(sum<int, short, long, char>, 1, short{2}, 3L, char{4}), 10);
  EXPECT_EQ(submit(sum<int, int, int, int, int>, 1, 2, 3, 4, 5), 15);
  EXPECT_EQ(submit(sum<int, short, long, char, int, unsigned char>, 1, short{2}, 3L, char{4}, 5, 'f'), 117);
}

TEST(callables, arguments_are_converted_as_in_a_call) {
  round_trip submit;
  EXPECT_EQ(submit([](double x) { return x; }, 7), 7.0);
  EXPECT_EQ(submit([](long x) { return x; }, std::size_t{10}), 10);
  EXPECT_EQ(submit([](const std::string& x) { return x + "!"; }, "literal"), "literal!");
}

TEST(callables, functions_of_one_signature_share_a_trampoline) {
  using task = task_for<int (&)(int) noexcept, int>;
  auto other = +[](int x) noexcept { return x; };
  EXPECT_EQ(task::ref(&quiet).entry, task::ref(other).entry);
  EXPECT_NE(task::ref(&quiet).target, task::ref(other).target);
  round_trip submit;
  EXPECT_EQ(submit(other, 1), 1);  // and still each is itself
}

TEST(callables, stateless_lambdas_have_a_trampoline_of_their_own) {
  auto f = [](int x) { return x; };
  auto g = [](int x) { return -x; };
  auto a = task_for<decltype(f)&, int>::ref(f);
  auto b = task_for<decltype(g)&, int>::ref(g);
  EXPECT_NE(a, b);
  EXPECT_EQ(a.target, nullptr);
  // Of one type each, from one line of a template.
  const auto maker = []<int N>(std::integral_constant<int, N>) { return [](int x) { return x * N; }; };
  round_trip submit;
  EXPECT_EQ(submit(maker(std::integral_constant<int, 3>()), 4), 12);
  EXPECT_EQ(submit(maker(std::integral_constant<int, 4>()), 4), 16);
}

struct adder {
  int operator()(int a, int b) const noexcept { return a + b; }
};
struct mutable_operator {
  std::string operator()(std::string text) { return text + "!"; }
};
class only_copied {
 public:
  static only_copied make() { return {}; }
  int operator()() const { return 3; }

 private:
  only_copied() = default;
};

TEST(callables, stateless_function_objects) {
  round_trip submit;
  EXPECT_EQ(submit(adder{}, 2, 3), 5);
  EXPECT_EQ(submit(mutable_operator{}, "hello"), "hello!");
  EXPECT_EQ(submit(only_copied::make()), 3);
}

TEST(callables, generic_function_objects_take_their_parameters_from_the_arguments) {
  round_trip submit;
  auto plus = [](auto a, const auto& b) { return a + b; };
  EXPECT_EQ(submit(plus, 1, 2), 3);
  EXPECT_EQ(submit(plus, std::string("a"), std::string("b")), "ab");
  auto is_const = [](auto x) { return std::is_const_v<typename decltype(x)::element_type>; };
  auto a = shmpool::make_array<int>(3, 3);
  EXPECT_TRUE(submit(is_const, a));
  EXPECT_EQ(submit(std::plus<>{}, 1.5, 2.5), 4.0);
}

struct overloaded {
  int operator()(int) const { return 1; }
  int operator()(const std::string&) const { return 2; }
};

TEST(callables, overloaded_function_objects) {
  round_trip submit;
  EXPECT_EQ(submit(overloaded{}, 0), 1);
  EXPECT_EQ(submit(overloaded{}, std::string("x")), 2);
  static_assert(!callable_with<overloaded, int, int>);
}

TEST(callables, by_value_sends_the_closure) {
  round_trip submit;
  double scale = 3;
  int shift = 1;
  EXPECT_EQ(submit(shmpool::by_value([scale, shift](double x) { return scale * x + shift; }), 2), 7.0);
  EXPECT_EQ(submit(shmpool::by_value([scale](auto x) { return scale * x; }), 2), 6.0);
  EXPECT_EQ(submit(shmpool::by_value([] { return 1; })), 1);
  std::array<int, 5000> large;
  large.fill(9);
  EXPECT_EQ(submit(shmpool::by_value([large] { return large; })), large);
  EXPECT_GE(submit.arguments.bytes.size(), sizeof large) << "in the message, whatever its size";
}

TEST(callables, void_result_is_no_bytes) {
  round_trip submit;
  static_assert(std::is_void_v<decltype(submit([](int) {}, 1))>);
  submit([](int) {}, 1);
  EXPECT_TRUE(submit.result.bytes.empty());
}

TEST(callables, exceptions_of_the_function_pass_through) {
  round_trip submit;
  EXPECT_THROW(submit([] { throw std::domain_error("no"); }), std::domain_error);
}

TEST(callables, arguments_that_are_left_over_are_a_violation) {
  round_trip submit;
  submit(&quiet, 1);
  submit.arguments.bytes.push_back(std::byte{});
  try {
    submit.run(task_for<decltype(&quiet), int>::ref(&quiet));
    FAIL();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), shmpool::errc::protocol_violation);
  }
}

struct token {};

TEST(callables, a_function_is_not_callable_with_a_token_behind_its_arguments) {
  static_assert(callable_with<decltype(&quiet), int>);
  static_assert(!callable_with<decltype(&quiet), int, token>);
  static_assert(!callable_with<decltype(&quiet)>);
  static_assert(callable_with<decltype(nothing)&>);
  static_assert(!callable_with<decltype(nothing)&, token>);
  auto generic = [](auto x) { return x; };
  static_assert(callable_with<decltype(generic), int>);
  static_assert(!callable_with<decltype(generic), int, token>);
}

TEST(callables, what_cannot_be_sent_is_not_callable) {
  int captured = 1;
  auto capture = [captured] { return captured; };
  auto capture_by_value = shmpool::by_value(capture);
  static_assert(!callable_with<decltype(capture)>);
  static_assert(callable_with<decltype(capture_by_value)>);
  EXPECT_EQ(round_trip{}(capture_by_value), 1);
  static_assert(!callable_with<std::function<int()>>);
  static_assert(!callable_with<int (std::string::*)(), std::string>);
  static_assert(!callable_with<int, int>);
  static_assert(!callable_with<int (*)(int&), int&>);
  static_assert(!callable_with<int (*)(int*), int*>);
  static_assert(!callable_with<int (*)(const array<int>&), array<int>&>);
  static_assert(!callable_with<const char* (*)()>);
  static_assert(!callable_with<std::string_view (*)()>);
  static_assert(!callable_with<int& (*)()>);
  static_assert(!callable_with<void (*)(std::reference_wrapper<int>), std::reference_wrapper<int>>);
}

TEST(callables, rvalues_are_moved_into_storage_and_lvalues_copied) {
  using shmpool::detail::store_arguments;
  using function = void (*)(std::vector<std::string>, const std::string&);
  std::vector<std::string> names{"a", "b"};
  std::string text(100, 'x');
  const char* where = text.data();
  auto kept = store_arguments<function>(names, std::move(text));
  EXPECT_EQ(names.size(), 2u);
  EXPECT_EQ(std::get<1>(kept).value.data(), where);
}

TEST(callables, result_type_is_what_the_function_returns) {
  auto constant = []() -> const std::string { return "x"; };
  static_assert(std::is_same_v<task_for<decltype(constant)>::result_type, std::string>);
  EXPECT_EQ(round_trip{}(constant), "x");
  static_assert(
      std::is_same_v<task_for<decltype(ten)&, int, int, int, int, int, int, int, int, int, std::string>::parameters,
                     std::tuple<int, int, int, int, int, int, int, int, int, const std::string&>>);
}

}  // namespace
