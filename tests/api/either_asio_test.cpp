// What must hold with standalone Asio and with Boost.Asio alike: each kind of completion token, an array there and
// back, an exception, and a cancellation. This file says shmpool::net where the others say asio, and is compiled
// against both.
#include <shmpool.hpp>

#ifdef SHMPOOL_USE_BOOST_ASIO
#include <boost/asio.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#else
#include <asio.hpp>
#include <asio/experimental/as_tuple.hpp>
#include <asio/experimental/awaitable_operators.hpp>
#include <asio/experimental/deferred.hpp>
#endif

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <future>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace {

namespace net = shmpool::net;
#if defined(SHMPOOL_USE_BOOST_ASIO) || ASIO_VERSION >= 102300
using net::as_tuple;
using net::deferred;
#else
using net::experimental::as_tuple;
using net::experimental::deferred;
#endif
using namespace std::chrono_literals;

int add(int a, int b) {
  return a + b;
}

shmpool::array<double> twice(shmpool::array<const double> x) {
  auto y = shmpool::make_array<double>(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = 2 * x[i];
  return y;
}

void refuse(const std::string& why) {
  throw std::invalid_argument(why);
}

void never_end() {
  for (volatile bool forever = true; forever;) {
  }
}

shmpool::pool_options one_worker() {
  const char* backend = std::getenv("SHMPOOL_BACKEND");
  shmpool::pool_options options{.workers = 1, .cancel_grace = 10ms};
  if (backend != nullptr && std::string_view(backend) == "epoll") options.backend = shmpool::backend::epoll;
  return options;
}

// Runs one coroutine with a pool of one worker; throws what it throws.
template <class Body>
void with_pool(Body body) {
  net::io_context io;
  shmpool::process_pool pool(io, one_worker());
  net::co_spawn(io, body(pool), [](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
  });
  io.run();
}

TEST(either_asio, a_submit_can_be_awaited) {
  with_pool([](shmpool::process_pool& pool) -> net::awaitable<void> {
    const int sum = co_await pool.submit(add, 40, 2);
    EXPECT_EQ(sum, 42);
    co_await pool.shutdown();
  });
}

TEST(either_asio, a_submit_takes_a_callback) {
  net::io_context io;
  shmpool::process_pool pool(io, one_worker());
  int sum = 0, calls = 0;
  pool.submit(add, 40, 2, [&](std::exception_ptr error, int result) {
    EXPECT_FALSE(error);
    sum = result;
    ++calls;
  });
  io.run();
  EXPECT_EQ(sum, 42);
  EXPECT_EQ(calls, 1);
}

TEST(either_asio, a_submit_gives_a_future) {
  net::io_context io;
  shmpool::process_pool pool(io, one_worker());
  std::future<int> sum = pool.submit(add, 40, 2, net::use_future);
  io.run();
  EXPECT_EQ(sum.get(), 42);
}

TEST(either_asio, an_array_goes_there_and_back) {
  with_pool([](shmpool::process_pool& pool) -> net::awaitable<void> {
    auto x = pool.make_array<double>(100'000, 21.0);
    const shmpool::array<double> y = co_await pool.submit(twice, x);
    EXPECT_EQ(y.size(), 100'000u);
    EXPECT_EQ(y.handle().is_shared(), true);
    for (double element : y) {
      if (element != 42) {
        ADD_FAILURE() << "wrong element " << element;
        break;
      }
    }
  });
}

TEST(either_asio, an_exception_of_a_task_keeps_its_type) {
  with_pool([](shmpool::process_pool& pool) -> net::awaitable<void> {
    bool caught = false;
    try {
      co_await pool.submit(refuse, std::string("not today"));
    } catch (const std::invalid_argument& error) {
      caught = true;
      EXPECT_STREQ(error.what(), "not today");
    }
    EXPECT_TRUE(caught);
  });
}

TEST(either_asio, a_task_that_loses_against_a_timer_is_stopped) {
  with_pool([](shmpool::process_pool& pool) -> net::awaitable<void> {
    using namespace net::experimental::awaitable_operators;
    net::steady_timer timer(pool.get_executor(), 20ms);
    const auto winner = co_await (pool.submit(never_end) || timer.async_wait(net::use_awaitable));
    EXPECT_EQ(winner.index(), 1u);
    // The only worker is free again.
    EXPECT_EQ(co_await pool.submit(add, 1, 1), 2);
  });
}

TEST(either_asio, a_submit_is_deferred) {
  net::io_context io;
  shmpool::process_pool pool(io, one_worker());
  auto lazy = pool.submit(add, 40, 2, deferred);
  EXPECT_EQ(pool.stats().submitted, 0U);
  std::future<int> sum = std::move(lazy)(net::use_future);
  io.run();
  EXPECT_EQ(sum.get(), 42);
}

TEST(either_asio, adaptors_of_tokens_compose) {
  with_pool([](shmpool::process_pool& pool) -> net::awaitable<void> {
    auto [error, sum] = co_await pool.submit(add, 40, 2, as_tuple(net::use_awaitable));
    EXPECT_FALSE(error);
    EXPECT_EQ(sum, 42);
    shmpool::net_error_code code;
    EXPECT_EQ(co_await pool.submit(add, 1, 2, net::redirect_error(net::use_awaitable, code)), 3);
    pool.submit(add, 1, 2, net::detached);
    pool.submit(add, 1, 2, net::bind_executor(pool.get_executor(), net::detached));
    co_await pool.shutdown(net::use_awaitable);
    EXPECT_EQ(pool.stats().completed, 4U);
  });
}

TEST(either_asio, an_executor_may_carry_the_default_token) {
  net::io_context io;
  auto pool = deferred.as_default_on(shmpool::process_pool(io, one_worker()));
  std::future<int> sum = pool.submit(add, 40, 2)(net::use_future);
  io.run();
  EXPECT_EQ(sum.get(), 42);
}

TEST(either_asio, a_slot_cancels_a_submit) {
  net::io_context io;
  shmpool::process_pool pool(io, one_worker());
  net::cancellation_signal signal;
  std::exception_ptr failure;
  pool.submit(never_end,
              net::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr error) { failure = error; }));
  net::post(io, [&] { signal.emit(net::cancellation_type::terminal); });
  io.run();
  ASSERT_TRUE(failure);
  try {
    std::rethrow_exception(failure);
  } catch (const shmpool::net_system_error& error) {
    EXPECT_EQ(error.code(), net::error::operation_aborted);
  }
}

TEST(either_asio, a_map_can_be_awaited) {
  with_pool([](shmpool::process_pool& pool) -> net::awaitable<void> {
    const std::vector<int> in(100, 21);
    const std::vector<int> out = co_await pool.map([](int x) { return 2 * x; }, in);
    EXPECT_EQ(out, std::vector<int>(100, 42));
  });
}

}  // namespace
