// What must hold with standalone Asio and with Boost.Asio alike: each kind of completion token, an array there and
// back, an exception, an error code, a cancellation. This file says shmpool::net where the others say asio, and is
// compiled against both.
#include <shmpool.hpp>

#ifdef SHMPOOL_USE_BOOST_ASIO
#include <boost/asio.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/throw_exception.hpp>
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
#include <ios>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
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

/// One error of each category that Asio has, OpenSSL's aside.
std::vector<shmpool::net_error_code> asio_errors() {
  return {net::error::eof,
          net::error::not_found,
          net::error::host_not_found,
          net::error::service_not_found,
          net::error::operation_aborted,
          net::error::connection_refused,
          shmpool::net_error_code()};
}

void fail_with(std::size_t which) {
  throw shmpool::net_system_error(asio_errors().at(which), "while testing");
}

// Asio's categories were unknown to the codec: no error of Asio's compared equal to itself after a task had thrown it.
TEST(either_asio, an_asio_error_of_a_task_is_the_same_error) {
  with_pool([](shmpool::process_pool& pool) -> net::awaitable<void> {
    const auto errors = asio_errors();
    for (std::size_t i = 0; i != errors.size(); ++i) {
      bool caught = false;
      try {
        co_await pool.submit(fail_with, i);
      } catch (const shmpool::net_system_error& error) {
        caught = true;
        EXPECT_EQ(error.code(), errors[i]) << error.what();
        EXPECT_EQ(error.code().message(), errors[i].message());
        EXPECT_EQ(std::string(error.what()), shmpool::net_system_error(errors[i], "while testing").what());
        EXPECT_TRUE(dynamic_cast<const shmpool::remote_error*>(&error));
      }
      EXPECT_TRUE(caught) << i;
    }
  });
}

struct attempt {
  std::string host;
  std::vector<std::optional<shmpool::net_error_code>> errors;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(host, errors);
  }
};

TEST(either_asio, an_asio_error_is_an_argument_and_a_result) {
  with_pool([](shmpool::process_pool& pool) -> net::awaitable<void> {
    const auto is_end = [](shmpool::net_error_code code) { return code == net::error::eof; };
    EXPECT_TRUE(co_await pool.submit(is_end, net::error::eof));
    EXPECT_FALSE(co_await pool.submit(is_end, net::error::host_not_found));
    EXPECT_EQ(co_await pool.submit([] { return shmpool::net_error_code(net::error::eof); }), net::error::eof);
    const auto all = co_await pool.submit(asio_errors);
    EXPECT_EQ(all, asio_errors());
    const auto again = [](attempt tried) {
      tried.errors.push_back(net::error::no_data);
      return tried;
    };
    const attempt before{"host", {std::nullopt, net::error::host_not_found}};
    const attempt tried = co_await pool.submit(again, before);
    EXPECT_EQ(tried.errors.at(1), net::error::host_not_found);
    EXPECT_EQ(tried.errors.at(2), net::error::no_data);
  });
}

#ifdef SHMPOOL_USE_BOOST_ASIO
TEST(either_asio, codes_of_boost_and_of_the_standard_hold_each_other) {
  with_pool([](shmpool::process_pool& pool) -> net::awaitable<void> {
    using boost::system::error_code;
    const auto same = [](error_code code) { return code; };
    const auto same_standard = [](std::error_code code) { return code; };
    const auto same_condition = [](boost::system::error_condition condition) { return condition; };
    const error_code wrapped = std::make_error_code(std::io_errc::stream);
    EXPECT_EQ(co_await pool.submit(same, wrapped), wrapped);
    EXPECT_EQ(std::error_code(co_await pool.submit(same, wrapped)), std::io_errc::stream);
    const std::error_code end = error_code(net::error::eof);
    EXPECT_EQ(co_await pool.submit(same_standard, end), end);
    const error_code generic(5, boost::system::generic_category());
    EXPECT_EQ(co_await pool.submit(same, generic), generic);
    EXPECT_TRUE((co_await pool.submit(same, generic)).failed());
    for (const boost::system::error_condition condition :
         {boost::system::error_condition(), boost::system::errc::make_error_condition(boost::system::errc::timed_out),
          boost::system::error_condition(7, boost::system::system_category())}) {
      EXPECT_EQ(co_await pool.submit(same_condition, condition), condition);
    }
  });
}

struct own_category final : boost::system::error_category {
  const char* name() const noexcept override { return "test.own"; }
  std::string message(int) const override { return "of the test"; }
};
const own_category& own() {
  static const own_category category;
  return category;
}
SHMPOOL_REGISTER_ERROR_CATEGORY(static_cast<const boost::system::error_category&>(own()));

struct unknown_category final : boost::system::error_category {
  const char* name() const noexcept override { return "test.unknown"; }
  std::string message(int) const override { return "of nobody"; }
};

TEST(either_asio, codes_of_boost_keep_categories_that_are_registered) {
  with_pool([](shmpool::process_pool& pool) -> net::awaitable<void> {
    using boost::system::error_code;
    const auto same = [](error_code code) { return code; };
    EXPECT_EQ(co_await pool.submit(same, error_code(9, own())), error_code(9, own()));
    static const unknown_category unknown;
    const error_code foreign = co_await pool.submit(same, error_code(9, unknown));
    EXPECT_EQ(foreign.value(), 9);
    EXPECT_STREQ(foreign.category().name(), "shmpool.foreign");
    // What Boost throws derives from what was given, and from things of Boost's own.
    bool caught = false;
    try {
      co_await pool.submit([] { boost::throw_exception(boost::system::system_error(net::error::eof, "read")); });
    } catch (const boost::system::system_error& error) {
      caught = error.code() == net::error::eof;
      EXPECT_EQ(std::string(error.what()).find("read"), 0u) << error.what();
    }
    EXPECT_TRUE(caught);
  });
}
#endif

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
