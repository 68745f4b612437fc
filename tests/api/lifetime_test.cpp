// Who may go first: pools, contexts, coroutines and tasks in flight; shutdown and stop; moved pools.
#include "api/gate.hpp"
#include "api/pool_fixture.hpp"
#include "support/processes.hpp"

#include <gmock/gmock.h>

#include <memory>
#include <optional>
#include <thread>
#include <vector>

namespace shmpool::testing {
namespace {

int add(int a, int b) {
  return a + b;
}

bool is(const std::exception_ptr& error, const std::error_code& code) {
  if (!error) return false;
  try {
    std::rethrow_exception(error);
  } catch (const std::system_error& thrown) {
    return thrown.code() == code;
  } catch (...) {
  }
  return false;
}

const std::error_code aborted = asio::error::make_error_code(asio::error::operation_aborted);

class lifetime : public ::testing::Test {
 protected:
  watchdog guard;
  std::optional<asio::io_context> io{std::in_place};

  /// Submits a task that runs, one behind it, a map and a shutdown's worth of handlers that each own `witness`.
  template <class Handler>
  void occupy(process_pool& pool, gate& held, const Handler& handler) {
    pool.submit(stubborn, held.argument(), 1, handler);
    run_until(*io, [&] { return held.entered(); });
    for (int i = 0; i != 20; ++i) pool.submit(add, i, 1, handler);
    pool.map([](int x) { return x; }, std::vector<int>(100, 1), handler);
    pool.map([](int) {}, std::vector<int>(100, 1), handler);
  }
  static constexpr int occupied = 23;

  pool_options one_worker() {
    pool_options result = options();
    result.workers = 1;
    return result;
  }
};

TEST_F(lifetime, tasks_in_flight_are_aborted_by_stop) {
  int calls = 0;
  process_pool pool(*io, one_worker());
  gate held(pool);
  occupy(pool, held, [&](std::exception_ptr error, auto&&...) {
    EXPECT_TRUE(is(error, aborted));
    ++calls;
  });
  const pid_t worker = held.argument()[0];
  pool.stop();
  EXPECT_EQ(calls, 0);
  io->run();
  EXPECT_EQ(calls, occupied);
  pool.stop();
  std::future<int> late = pool.submit(add, 1, 2, asio::use_future);
  std::future<void> end = pool.shutdown(asio::use_future);
  io->restart();
  io->run();
  EXPECT_THROW(late.get(), std::system_error);
  end.get();
  EXPECT_EQ(pool.stats().workers, 0U);
  EXPECT_TRUE(is_gone(worker));
}

TEST_F(lifetime, handlers_are_destroyed_and_not_called_when_the_context_goes_first) {
  auto witness = std::make_shared<int>();
  process_pool pool(*io, one_worker());
  gate held(pool);
  occupy(pool, held, [witness](std::exception_ptr, auto&&...) { FAIL(); });
  pool.shutdown([witness](std::exception_ptr) { FAIL(); });
  EXPECT_GT(witness.use_count(), occupied);
  io.reset();
  EXPECT_EQ(witness.use_count(), 1);
  EXPECT_TRUE(happens([] { return workers_of(::getpid()).empty(); })) << "its workers went with the context";
}

TEST_F(lifetime, handlers_that_wait_to_be_called_are_destroyed_with_the_context) {
  auto witness = std::make_shared<int>();
  process_pool pool(*io, one_worker());
  gate held(pool);
  occupy(pool, held, [witness](std::exception_ptr, auto&&...) { FAIL(); });
  pool.stop();  // posts them all
  io.reset();
  EXPECT_EQ(witness.use_count(), 1);
}

TEST_F(lifetime, a_handler_that_throws_leaves_the_others_to_the_context_to_destroy) {
  auto witness = std::make_shared<int>();
  int calls = 0;
  process_pool pool(*io, one_worker());
  gate held(pool);
  occupy(pool, held, [&, witness](std::exception_ptr, auto&&...) {
    if (++calls == 5) throw std::runtime_error("enough");
  });
  pool.stop();
  EXPECT_THROW(io->run(), std::runtime_error);
  EXPECT_EQ(calls, 5);
  EXPECT_GT(witness.use_count(), 1);
  io.reset();
  EXPECT_EQ(witness.use_count(), 1);
}

TEST_F(lifetime, a_submit_after_the_end_of_the_context_throws) {
  process_pool pool(*io, options());
  const auto x = pool.make_array<double>(100'000, 1.0);
  io.reset();
  const auto code_of = [](auto call) -> std::error_code {
    try {
      call();
    } catch (const std::system_error& error) {
      return error.code();
    }
    return {};
  };
  EXPECT_EQ(code_of([&] { pool.submit(add, 1, 2, asio::detached); }), errc::pool_closed);
  EXPECT_EQ(code_of([&] { pool.map([](int) {}, std::vector<int>{1}, asio::detached); }), errc::pool_closed);
  EXPECT_EQ(code_of([&] { pool.shutdown(asio::detached); }), errc::pool_closed);
  pool.stop();
  EXPECT_EQ(code_of([&] { pool.make_array<double>(100'000, 1.0); }), errc::pool_closed);
  EXPECT_EQ(x[99'999], 1.0);  // what there is stays
}

TEST_F(lifetime, a_coroutine_that_owns_the_pool_is_destroyed_with_the_context) {
  auto witness = std::make_shared<int>();
  bool began = false;
  asio::co_spawn(
      *io,
      [](pool_options with, std::shared_ptr<int> mine, bool& started) -> asio::awaitable<void> {
        process_pool pool(co_await asio::this_coro::executor, with);
        gate held(pool);
        asio::co_spawn(
            co_await asio::this_coro::executor,
            [&]() -> asio::awaitable<void> {
              co_await entered(held);
              started = true;
            },
            asio::detached);
        co_await pool.submit(stubborn, held.argument(), 1);
        ADD_FAILURE() << "resumed by " << *mine;
      }(one_worker(), witness, began),
      asio::detached);
  run_until(*io, [&] { return began; });
  EXPECT_EQ(witness.use_count(), 2);
  io.reset();
  EXPECT_EQ(witness.use_count(), 1);
}

TEST_F(lifetime, a_coroutine_that_owns_the_pool_may_end_with_tasks_in_flight) {
  int calls = 0;
  run(*io, [](pool_options with, int& aborts) -> asio::awaitable<void> {
    process_pool pool(co_await asio::this_coro::executor, with);
    gate held(pool);
    pool.submit(stubborn, held.argument(), 1,
                [&aborts](std::exception_ptr error, int) { aborts += is(error, aborted); });
    co_await entered(held);
  }(one_worker(), calls));
  EXPECT_EQ(calls, 1);
}

TEST_F(lifetime, a_pool_that_was_never_used_goes_before_or_after_its_context) {
  { const process_pool before(*io, options()); }
  const process_pool after(*io, options());
  io.reset();
}

TEST_F(lifetime, a_thread_pool_may_be_destroyed_with_tasks_in_flight) {
  auto witness = std::make_shared<int>();
  std::optional<asio::thread_pool> threads(std::in_place, 2);
  process_pool pool(*threads, one_worker());
  gate held(pool);
  pool.submit(stubborn, held.argument(), 1, [witness](std::exception_ptr, int) { ADD_FAILURE(); });
  for (int i = 0; i != 20; ++i) pool.submit(add, i, 1, [witness](std::exception_ptr, int) { ADD_FAILURE(); });
  while (!held.entered()) std::this_thread::yield();
  threads.reset();
  EXPECT_EQ(witness.use_count(), 1);
}

TEST_F(lifetime, a_moved_pool_takes_its_tasks_with_it) {
  process_pool first(*io, one_worker());
  gate held(first);
  int calls = 0;
  first.submit(stubborn, held.argument(), 1, [&](std::exception_ptr error, int) { calls += error ? 100 : 1; });
  run_until(*io, [&] { return held.entered(); });
  process_pool second(std::move(first));
  EXPECT_EQ(first.get_executor(), second.get_executor());
  second.submit(add, 1, 2, [&](std::exception_ptr error, int) { calls += error ? 100 : 1; });
  held.open();
  io->run();
  EXPECT_EQ(calls, 2);
}

TEST_F(lifetime, assigning_to_a_pool_ends_what_it_had) {
  process_pool pool(*io, one_worker());
  gate held(pool);
  bool was_aborted = false;
  pool.submit(stubborn, held.argument(), 1, [&](std::exception_ptr error, int) { was_aborted = is(error, aborted); });
  run_until(*io, [&] { return held.entered(); });
  pool = process_pool(*io, one_worker());
  std::future<int> sum = pool.submit(add, 1, 2, asio::use_future);
  io->run();
  EXPECT_TRUE(was_aborted);
  EXPECT_EQ(sum.get(), 3);
}

TEST_F(lifetime, shutdown_waits_for_all_tasks_and_leaves_no_worker_and_no_warm_memory) {
  process_pool pool(*io, one_worker());
  pool.make_array<double>(1'000'000, 1.0);  // goes to the cache at once
  gate held(pool);
  std::vector<int> order;
  bool was_refused = false;
  pool.submit(stubborn, held.argument(), 1, [&](std::exception_ptr error, int) { order.push_back(error ? -1 : 1); });
  pool.submit(add, 1, 1, [&](std::exception_ptr error, int) { order.push_back(error ? -2 : 2); });
  pool.shutdown([&](std::exception_ptr error) { order.push_back(error ? -3 : 3); });
  pool.shutdown([&](std::exception_ptr error) { order.push_back(error ? -4 : 4); });
  pool.submit(add, 1, 1, [&](std::exception_ptr error, int) { was_refused = is(error, errc::pool_closed); });
  run_until(*io, [&] { return held.entered(); });
  held.open();
  io->run();
  EXPECT_THAT(order, ::testing::ElementsAre(1, 2, 3, 4));
  EXPECT_TRUE(was_refused) << "whenever: the first task may have ended before";
  EXPECT_EQ(pool.stats().workers, 0U);
  EXPECT_EQ(pool.stats().cached_segments, 0U);
  EXPECT_TRUE(workers_of(::getpid()).empty()) << "not even a zombie";
  bool refused = false;
  pool.submit(add, 1, 1, [&](std::exception_ptr error, int) { refused = is(error, errc::pool_closed); });
  std::future<void> again = pool.shutdown(asio::use_future);  // and again, at once
  io->restart();
  io->run();
  EXPECT_TRUE(refused);
  again.get();
}

}  // namespace
}  // namespace shmpool::testing
