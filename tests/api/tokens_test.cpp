// Every completion token and adaptor of Asio with submit() and map(): what completes how, and that lazy tokens do
// nothing before they are initiated.
#include "api/gate.hpp"
#include "api/pool_fixture.hpp"

#include <asio/experimental/as_tuple.hpp>
#include <asio/experimental/awaitable_operators.hpp>
#include <asio/experimental/deferred.hpp>

#include <gmock/gmock.h>

#include <memory>
#include <ranges>
#include <stdexcept>
#include <vector>

namespace shmpool::testing {
namespace {

using asio::experimental::as_tuple;
using asio::experimental::deferred;
using namespace std::chrono_literals;
using ::testing::ElementsAre;

int add(int a, int b) {
  return a + b;
}

int twice(int x) {
  return 2 * x;
}

array<double> add_one(array<const double> x) {
  auto out = make_array<double>(x.size());
  for (std::size_t i = 0; i != x.size(); ++i) out[i] = x[i] + 1;
  return out;
}

void set_first(array<int>& x, int value) {
  x[0] = value;
}

int refuse(int) {
  throw std::invalid_argument("no");
}

class tokens : public ::testing::Test {
 protected:
  watchdog guard;
  asio::io_context io;
  process_pool pool{io, options()};
};

TEST_F(tokens, no_token_is_awaited) {
  auto big = pool.make_array<double>(100'000, 1.0);
  const auto out = run(io, [](process_pool& p, array<double>& in) -> asio::awaitable<array<double>> {
    co_return co_await p.submit(add_one, in);
  }(pool, big));
  EXPECT_EQ(out.size(), 100'000U);
  EXPECT_EQ(out[99'999], 2.0);
}

TEST_F(tokens, use_awaitable_is_awaited) {
  run(io, [](process_pool& p) -> asio::awaitable<void> {
    EXPECT_EQ(co_await p.submit(add, 40, 2, asio::use_awaitable), 42);
    const auto token = asio::use_awaitable;
    EXPECT_EQ(co_await p.submit(add, 1, 2, token), 3);
    auto x = p.make_array<int>(10'000, fill(0));
    co_await p.submit(set_first, x, 7, asio::use_awaitable);
    EXPECT_EQ(x[0], 7);
  }(pool));
}

TEST_F(tokens, an_awaitable_that_is_not_awaited_does_nothing) {
  run(io, [](process_pool& p) -> asio::awaitable<void> {
    auto pending = p.submit(add, 1, 2);
    EXPECT_EQ(p.stats().submitted, 0U);
    EXPECT_EQ(co_await std::move(pending), 3);
    EXPECT_EQ(p.stats().submitted, 1U);
    { auto never = p.submit(add, 3, 4); }
    EXPECT_EQ(p.stats().submitted, 1U);
  }(pool));
}

TEST_F(tokens, deferred_does_nothing_before_it_is_initiated) {
  auto operation = pool.submit(add, 40, 2, deferred);
  io.poll();
  io.restart();
  EXPECT_EQ(pool.stats().submitted, 0U);
  int sum = 0;
  std::move(operation)([&](std::exception_ptr error, int result) {
    EXPECT_FALSE(error);
    sum = result;
  });
  EXPECT_EQ(pool.stats().submitted, 1U);
  io.run();
  EXPECT_EQ(sum, 42);
}

TEST_F(tokens, deferred_of_an_array_keeps_the_array) {
  auto operation = [&] {
    auto x = pool.make_array<double>(50'000, 1.0);
    return pool.submit(add_one, x, deferred);
  }();
  auto future = std::move(operation)(asio::use_future);
  io.run();
  EXPECT_EQ(future.get()[49'999], 2.0);
}

TEST_F(tokens, deferred_is_awaited) {
  run(io, [](process_pool& p) -> asio::awaitable<void> {
    EXPECT_EQ(co_await p.submit(add, 1, 2, deferred)(asio::use_awaitable), 3);
    auto map = p.map(twice, std::views::iota(1, 4), deferred);
    EXPECT_THAT(co_await std::move(map)(asio::use_awaitable), ElementsAre(2, 4, 6));
  }(pool));
}

TEST_F(tokens, use_future_gives_the_value_or_the_exception) {
  std::future<int> sum = pool.submit(add, 40, 2, asio::use_future);
  std::future<int> no = pool.submit(refuse, 1, asio::use_future);
  auto x = pool.make_array<int>(10'000, fill(0));
  std::future<void> done = pool.submit(set_first, x, 9, asio::use_future);
  io.run();
  EXPECT_EQ(sum.get(), 42);
  EXPECT_THROW(no.get(), std::invalid_argument);
  done.get();
  EXPECT_EQ(x[0], 9);
}

TEST_F(tokens, detached_runs_the_task) {
  auto x = pool.make_array<int>(10'000, fill(0));
  pool.submit(set_first, x, 5, asio::detached);
  pool.submit(refuse, 1, asio::detached);
  io.run();
  EXPECT_EQ(x[0], 5);
  EXPECT_EQ(pool.stats().failed, 1U);
}

TEST_F(tokens, a_callback_is_called_once) {
  int calls = 0;
  pool.submit(add, 40, 2, [&](std::exception_ptr error, int sum) {
    EXPECT_FALSE(error);
    EXPECT_EQ(sum, 42);
    ++calls;
  });
  auto x = pool.make_array<int>(10'000, fill(0));
  pool.submit(set_first, x, 5, [&](std::exception_ptr error) {
    EXPECT_FALSE(error);
    ++calls;
  });
  pool.submit(refuse, 1, [&](std::exception_ptr error, int nothing) {
    EXPECT_THROW(std::rethrow_exception(error), std::invalid_argument);
    EXPECT_EQ(nothing, 0);
    ++calls;
  });
  io.run();
  EXPECT_EQ(calls, 3);
}

TEST_F(tokens, a_lambda_without_captures_is_a_function_too) {
  std::future<int> product = pool.submit([](int a, int b) { return a * b; }, 6, 7, asio::use_future);
  io.run();
  EXPECT_EQ(product.get(), 42);
}

TEST_F(tokens, as_tuple_does_not_throw) {
  run(io, [](process_pool& p) -> asio::awaitable<void> {
    auto [error, sum] = co_await p.submit(add, 1, 2, as_tuple(asio::use_awaitable));
    EXPECT_FALSE(error);
    EXPECT_EQ(sum, 3);
    auto [no, nothing] = co_await p.submit(refuse, 1, as_tuple(asio::use_awaitable));
    EXPECT_THROW(std::rethrow_exception(no), std::invalid_argument);
    EXPECT_EQ(nothing, 0);
  }(pool));
  int sum = 0;
  pool.submit(add, 1, 2, as_tuple([&](std::tuple<std::exception_ptr, int> result) { sum += std::get<1>(result); }));
  pool.submit(add, 1, 2,
              as_tuple(deferred))([&](std::tuple<std::exception_ptr, int> result) { sum += std::get<1>(result); });
  io.restart();
  io.run();
  EXPECT_EQ(sum, 6);
}

TEST_F(tokens, redirect_error_passes_exceptions_through) {
  run(io, [](process_pool& p) -> asio::awaitable<void> {
    // It redirects error codes; a completion signature with an std::exception_ptr goes by it unchanged.
    asio::error_code code;
    EXPECT_EQ(co_await p.submit(add, 1, 2, asio::redirect_error(asio::use_awaitable, code)), 3);
    EXPECT_FALSE(code);
  }(pool));
}

TEST_F(tokens, a_token_may_be_an_lvalue) {
  auto callback = [](std::exception_ptr error, int) { EXPECT_FALSE(error); };
  const auto constant = callback;
  pool.submit(add, 1, 2, callback);
  pool.submit(add, 1, 2, constant);
  pool.map(twice, std::vector<int>{1}, asio::detached);
  EXPECT_EQ(io.run() != 0, true);
  EXPECT_EQ(pool.stats().completed, 3U);
}

TEST_F(tokens, both_sides_of_an_and_are_awaited) {
  run(io, [](process_pool& p) -> asio::awaitable<void> {
    using namespace asio::experimental::awaitable_operators;
    const auto [a, b] = co_await (p.submit(add, 1, 2) && p.submit(twice, 4));
    EXPECT_EQ(a, 3);
    EXPECT_EQ(b, 8);
    asio::steady_timer timer(p.get_executor(), 1ms);
    EXPECT_EQ(co_await (p.submit(add, 1, 2) && timer.async_wait(asio::use_awaitable)), 3);
  }(pool));
}

TEST_F(tokens, a_task_can_win_an_or_against_a_timer) {
  run(io, [](process_pool& p) -> asio::awaitable<void> {
    using namespace asio::experimental::awaitable_operators;
    asio::steady_timer timer(p.get_executor(), 1h);
    const auto first = co_await (p.submit(add, 1, 2) || timer.async_wait(asio::use_awaitable));
    EXPECT_EQ(std::get<0>(first), 3);
  }(pool));
}

TEST_F(tokens, task_options_come_first) {
  const task_options patient{.timeout = 1min};
  std::future<int> sum = pool.submit(patient, add, 40, 2, asio::use_future);
  std::future<int> again = pool.submit(task_options{.idempotent = true, .attempts = 2}, add, 1, 2, asio::use_future);
  std::future<std::vector<int>> all = pool.map(patient, twice, std::vector<int>{1, 2}, asio::use_future);
  io.run();
  EXPECT_EQ(sum.get(), 42);
  EXPECT_EQ(again.get(), 3);
  EXPECT_THAT(all.get(), ElementsAre(2, 4));
}

TEST_F(tokens, a_default_token_of_the_executor_is_used) {
  auto typed = asio::use_awaitable_t<>::as_default_on(process_pool(io, options()));
  run(io, [](decltype(typed)& p) -> asio::awaitable<void> {
    EXPECT_EQ(co_await p.submit(add, 1, 2), 3);
    co_await p.shutdown();
  }(typed));

  auto lazy = deferred.as_default_on(process_pool(io, options()));
  std::future<int> sum = lazy.submit(add, 40, 2)(asio::use_future);
  std::future<void> end = lazy.shutdown()(asio::use_future);
  io.run();
  EXPECT_EQ(sum.get(), 42);
  end.get();
  io.restart();

  using tuples = asio::experimental::as_tuple_t<asio::use_awaitable_t<>>::as_default_on_t<process_pool>;
  tuples without_throwing(io, options());
  run(io, [](tuples& p) -> asio::awaitable<void> {
    auto [error, nothing] = co_await p.submit(refuse, 1);
    EXPECT_THROW(std::rethrow_exception(error), std::invalid_argument);
    EXPECT_EQ(nothing, 0);
    const std::vector<int> in{1, 2};
    auto [failed, all] = co_await p.map(twice, in);
    EXPECT_FALSE(failed);
    EXPECT_THAT(all, ElementsAre(2, 4));
  }(without_throwing));
}

TEST_F(tokens, map_takes_every_token) {
  int calls = 0;
  pool.map(twice, std::vector<int>{1, 2, 3}, [&](std::exception_ptr error, std::vector<int> out) {
    EXPECT_FALSE(error);
    EXPECT_THAT(out, ElementsAre(2, 4, 6));
    ++calls;
  });
  pool.map([](int) {}, std::vector<int>{1, 2},
           [&](std::exception_ptr error) {
             EXPECT_FALSE(error);
             ++calls;
           });
  std::future<std::vector<int>> out = pool.map(twice, std::vector<int>{4}, asio::use_future);
  io.run();
  EXPECT_EQ(calls, 2);
  EXPECT_THAT(out.get(), ElementsAre(8));
}

TEST_F(tokens, map_over_nothing_completes_but_not_at_once) {
  bool initiated = false, called = false;
  pool.map(twice, std::vector<int>{}, [&](std::exception_ptr error, std::vector<int> out) {
    EXPECT_TRUE(initiated);
    EXPECT_FALSE(error);
    EXPECT_TRUE(out.empty());
    called = true;
  });
  initiated = true;
  EXPECT_FALSE(called);
  io.run();
  EXPECT_TRUE(called);
  EXPECT_EQ(pool.stats().submitted, 0U);
}

TEST_F(tokens, shutdown_takes_every_token) {
  bool called = false;
  pool.shutdown([&](std::exception_ptr error) {
    EXPECT_FALSE(error);
    called = true;
  });
  EXPECT_FALSE(called);
  auto again = pool.shutdown(asio::use_future);
  auto lazy = pool.shutdown(deferred);
  std::move(lazy)(asio::detached);
  io.run();
  EXPECT_TRUE(called);
  again.get();
}

}  // namespace
}  // namespace shmpool::testing
