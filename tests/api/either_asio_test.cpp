// What must hold with standalone Asio and with Boost.Asio alike: each kind of completion token, an array there and
// back, an exception, and a cancellation. This file says shmpool::net where the others say asio, and is compiled
// against both.
#include <shmpool.hpp>

#ifdef SHMPOOL_USE_BOOST_ASIO
#include <boost/asio.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#else
#include <asio.hpp>
#include <asio/experimental/awaitable_operators.hpp>
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

namespace {

namespace net = shmpool::net;
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

}  // namespace
