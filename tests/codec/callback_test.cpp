// callback, cpu_set and resource_limits: values that g++ 12 may make members of, inside a co_await, byte by byte.
#include <shmpool/options.hpp>

#include <gtest/gtest.h>

#include <coroutine>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

namespace shmpool {
namespace {

using told = callback<void(int)>;

/// Counts its copies that live.
struct counted {
  explicit counted(int& alive) : alive_(&alive) { ++*alive_; }
  counted(const counted& other) : alive_(other.alive_) { ++*alive_; }
  counted& operator=(const counted&) = delete;
  ~counted() { --*alive_; }
  int* alive_;
};

int last_number = 0;
void remember(int number) {
  last_number = number;
}

TEST(callback, calls_whatever_can_be_called) {
  const told plain = remember, pointer = &remember;
  plain(1);
  EXPECT_EQ(last_number, 1);
  pointer(2);
  EXPECT_EQ(last_number, 2);
  int sum = 0;
  const told lambda = [&sum](int number) { sum += number; };
  lambda(3);
  const told function = std::function<void(int)>(lambda);
  function(4);
  EXPECT_EQ(sum, 7);
}

TEST(callback, is_empty_where_a_std_function_would_be) {
  EXPECT_FALSE(told());
  EXPECT_FALSE(told(nullptr));
  EXPECT_FALSE(told(std::function<void(int)>()));
  void (*no_function)(int) = nullptr;
  EXPECT_FALSE(told(no_function));
  EXPECT_TRUE(told([](int) {}));
}

TEST(callback, is_shared_by_its_copies_and_destroyed_with_the_last) {
  int alive = 0;
  int calls = 0;
  {
    const counted capture(alive);
    told first = [capture, &calls, own = 0](int) mutable { calls = ++own; };
    EXPECT_EQ(alive, 2);
    told second = first, third;
    third = second;
    EXPECT_EQ(alive, 2) << "to copy a callback copies no function";
    first(0);
    second(0);
    third(0);
    EXPECT_EQ(calls, 3);
    told moved = std::move(first);
    EXPECT_FALSE(first);  // NOLINT: that is what moving one does
    moved = nullptr;
    second = [](int) {};
    EXPECT_EQ(alive, 2);
    third = std::move(second);
    EXPECT_EQ(alive, 1);
  }
  EXPECT_EQ(alive, 0);
}

TEST(cpu_set, is_written_as_a_list_or_made_from_a_range) {
  const cpu_set listed = {3, 0, 700, 3};
  EXPECT_EQ(std::vector<int>(listed.begin(), listed.end()), (std::vector<int>{0, 3, 700}));
  EXPECT_EQ(listed, cpu_set(std::vector<int>{700, 3, 0}));
  EXPECT_TRUE(listed.contains(700));
  EXPECT_FALSE(listed.contains(701));
  EXPECT_EQ(listed.size(), 3U);
  EXPECT_TRUE(cpu_set().empty());
  EXPECT_EQ((cpu_set{0, -1}.invalid()), -1);
  EXPECT_EQ((cpu_set{1024, 1}.invalid()), 1024);
  EXPECT_FALSE((cpu_set{0, 1023}.invalid()));
}

TEST(resource_limits, are_written_as_a_list_or_made_from_a_range) {
  const resource_limits listed = {{1, 64}, {2, 0}};
  EXPECT_EQ(listed, resource_limits(std::vector<std::pair<int, std::uint64_t>>{{1, 64}, {2, 0}}));
  EXPECT_EQ(listed[0], (std::pair<int, std::uint64_t>{1, 64}));
  resource_limits many;
  many.assign(17, {3, 0});
  EXPECT_EQ(many.size(), 17U) << "too many are told from as many as there may be";
  EXPECT_EQ(many.end() - many.begin(), 16);
}

/// A member that g++ 12 may copy byte by byte and destroy twice.
template <class T>
constexpr bool survives = std::is_trivially_copy_constructible_v<T> && std::is_trivially_destructible_v<T>;
template <class... Args>
constexpr bool survives<callback<void(Args...)>> = true;
template <>
constexpr bool survives<bound_function> = true;  // a key, which may be destroyed twice

template <class Tuple>
constexpr bool all_survive = false;
template <class... Members>
constexpr bool all_survive<std::tuple<Members&...>> = (survives<Members> && ...);

// One that is added to the options has to be added here, and to be of such a type: docs/adr/0012-option-types.md.
[[maybe_unused]] auto members_of(pool_options& all) {
  auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, a2, b2] = all;
  return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, a2, b2);
}
[[maybe_unused]] auto members_of(task_options& all) {
  auto& [a, b, c, d, e, f] = all;
  return std::tie(a, b, c, d, e, f);
}
static_assert(all_survive<decltype(members_of(std::declval<pool_options&>()))>);
static_assert(all_survive<decltype(members_of(std::declval<task_options&>()))>);

// ---- In a co_await. The pool's own expressions are in tests/api/inline_options_test.cpp; these run with each
// compiler.

struct coroutine {
  struct promise_type {
    coroutine get_return_object() { return {}; }
    std::suspend_never initial_suspend() { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { throw; }
  };
};

/// Suspends and goes on, as an operation does.
struct operation {
  int value;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> of) const { of.resume(); }
  int await_resume() const { return value; }
};

operation submit(const task_options& options) {
  const task_options kept = options;
  if (kept.on_progress) kept.on_progress(0.5);
  return {1};
}
operation refuse(const task_options& options) {
  const task_options kept = options;
  throw std::runtime_error("refused");
}
operation make(const pool_options& options) {
  const pool_options kept = options;
  return {static_cast<int>(kept.cpu_affinity.size() + 10 * kept.rlimits.size())};
}

template <class Capture>
coroutine captures(Capture capture, int& calls) {
  co_await submit(task_options{.on_progress = [capture, &calls](double) { ++calls; }});
  co_await submit({.timeout = std::chrono::seconds(1), .on_progress = [capture, &calls](double) mutable { ++calls; }});
  co_await submit({.on_progress = [capture, more = capture, &calls](double) { ++calls; }});
  const auto named = [capture, &calls](double) { ++calls; };
  co_await submit({.on_progress = named});
  const std::function<void(double)> function = named;
  co_await submit({.on_progress = function});
  task_options kept{.on_progress = [capture, &calls](double) { ++calls; }};
  co_await submit({.on_progress = kept.on_progress});
  co_await submit(kept);
  const int sum = co_await submit({.on_progress = [capture, &calls](double) { ++calls; }}) +
                  co_await submit({.on_progress = [capture, &calls](double) { ++calls; }});
  EXPECT_EQ(sum, 2);
  try {
    co_await refuse({.on_progress = [capture](double) {}});
  } catch (const std::runtime_error&) {
    ++calls;
  }
}

// g++ 12 makes what a lambda captures, and what an aggregate is initialised with, from the bytes of a temporary where
// the expression has a co_await, and destroys both: a std::function in the options freed what was not allocated.
TEST(options_in_a_co_await, keep_what_their_functions_capture) {
  int alive = 0, calls = 0;
  captures(counted(alive), calls);
  EXPECT_EQ(alive, 0);
  EXPECT_EQ(calls, 10);
  const auto pointer = std::make_shared<int>(1);
  captures(pointer, calls);
  EXPECT_EQ(pointer.use_count(), 1);
  captures(std::string("short"), calls);
  captures(std::string(100, 'x'), calls);
  captures(std::vector<std::string>(3, "element"), calls);
  captures(std::map<int, int>{{1, 2}, {3, 4}}, calls);
  EXPECT_EQ(calls, 60);
}

coroutine lists(int& sum) {
  const std::vector<int> cpus = {0, 1, 2};
  sum += co_await make({.cpu_affinity = {0, 1}, .rlimits = {{1, 2}, {3, 4}}});
  sum += co_await make({.cpu_affinity = {0}, .rlimits = {{1, 2}}});
  sum += co_await make(pool_options{.cpu_affinity = cpus, .rlimits = std::vector<std::pair<int, std::uint64_t>>(2)});
}

// "array used as initializer", g++ 12 said of a std::initializer_list there, and the bytes of a std::vector were freed
// twice.
TEST(options_in_a_co_await, have_their_lists) {
  int sum = 0;
  lists(sum);
  EXPECT_EQ(sum, 22 + 11 + 23);
}

}  // namespace
}  // namespace shmpool
