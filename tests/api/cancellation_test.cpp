// What each kind of cancellation does to a task that waits, runs or has ended, and deadlines.
#include "api/gate.hpp"
#include "api/pool_fixture.hpp"

#include <asio/experimental/awaitable_operators.hpp>

#include <gmock/gmock.h>

#include <optional>
#include <thread>
#include <vector>

namespace shmpool::testing {
namespace {

using namespace std::chrono_literals;
using asio::cancellation_type;

int add(int a, int b) {
  return a + b;
}

void never_ends(array<int>& flags) {
  gate::pass(flags, false);
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

/// One worker, so that a second task waits behind the first.
pool_options one_worker(std::chrono::milliseconds grace = 5ms) {
  pool_options result = options();
  result.workers = 1;
  result.cancel_grace = grace;
  return result;
}

/// What became of one submit.
struct ended {
  std::optional<std::exception_ptr> error;
  int value = 0;
  auto handler() {
    return [this](std::exception_ptr e, int v) {
      EXPECT_FALSE(error) << "completed twice";
      error = e;
      value = v;
    };
  }
  auto handler(asio::cancellation_signal& signal) { return asio::bind_cancellation_slot(signal.slot(), handler()); }
};

class cancellation : public ::testing::Test {
 protected:
  watchdog guard;
  asio::io_context io;
  asio::cancellation_signal signal;
};

class each_kind : public cancellation, public ::testing::WithParamInterface<cancellation_type> {};

TEST_P(each_kind, removes_a_queued_task) {
  process_pool pool(io, one_worker());
  gate held(pool);
  ended first, second;
  pool.submit(stubborn, held.argument(), 1, first.handler());
  run_until(io, [&] { return held.entered(); });
  pool.submit(add, 1, 2, second.handler(signal));
  signal.emit(GetParam());
  run_until(io, [&] { return second.error.has_value(); });
  EXPECT_TRUE(is(*second.error, aborted));
  EXPECT_FALSE(first.error);
  EXPECT_EQ(pool.stats().queued, 0U);
  held.open();
  io.run();
  EXPECT_EQ(first.value, 1);
}

TEST_P(each_kind, takes_back_a_task_that_was_handed_over_but_not_started) {
  process_pool pool(io, one_worker());
  gate open(pool), held(pool);
  open.open();
  ended first, second;
  // Only behind a task that is known to be short is another one handed over; preemption may make one look long.
  for (int attempt = 0;; ++attempt) {
    ASSERT_LT(attempt, 1000);
    for (int i = 0; i != 20; ++i) {
      pool.submit(stubborn, open.argument(), 1, asio::detached);
      pool.submit(add, i, 1, asio::detached);
      io.run();
      io.restart();
    }
    gate fresh(pool);
    std::swap(held, fresh);
    first = second = {};
    pool.submit(stubborn, held.argument(), 1, first.handler());
    pool.submit(add, 1, 2, second.handler(signal));
    run_until(io, [&] { return held.entered(); });
    if (pool.stats().assigned == 2) break;
    held.open();
    io.run();
    io.restart();
  }
  signal.emit(GetParam());
  run_until(io, [&] { return second.error.has_value(); });
  EXPECT_TRUE(is(*second.error, aborted));
  held.open();
  io.run();
  EXPECT_EQ(first.value, 1);
  EXPECT_EQ(pool.stats().worker_deaths, 0U);
}

TEST_P(each_kind, after_completion_is_harmless) {
  process_pool pool(io, one_worker());
  ended task;
  pool.submit(add, 1, 2, task.handler(signal));
  io.run();
  EXPECT_EQ(task.value, 3);
  signal.emit(GetParam());
  io.restart();
  EXPECT_EQ(io.run(), 0U);  // the slot was cleared
  pool.submit(add, 3, 4, asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr, int) {}));
  io.restart();
  io.run();
  EXPECT_EQ(pool.stats().completed, 2U);
}

TEST_P(each_kind, after_the_context_is_gone_is_harmless) {
  std::optional<asio::io_context> context;
  context.emplace();
  process_pool pool(*context, one_worker());
  pool.submit(add, 1, 2, asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr, int) { FAIL(); }));
  asio::cancellation_signal map_signal;
  pool.map([](int x) { return x; }, std::vector<int>{1, 2},
           asio::bind_cancellation_slot(map_signal.slot(), [](std::exception_ptr, std::vector<int>) { FAIL(); }));
  context.reset();
  signal.emit(GetParam());
  map_signal.emit(GetParam());
}

INSTANTIATE_TEST_SUITE_P(cancellation, each_kind,
                         ::testing::Values(cancellation_type::total, cancellation_type::partial,
                                           cancellation_type::terminal, cancellation_type::all),
                         [](const auto& kind) {
                           switch (kind.param) {
                             case cancellation_type::total: return "total";
                             case cancellation_type::partial: return "partial";
                             case cancellation_type::terminal: return "terminal";
                             default: return "all";
                           }
                         });

TEST_F(cancellation, total_does_nothing_to_a_running_task) {
  process_pool pool(io, one_worker());
  gate held(pool);
  ended task;
  pool.submit(heedful, held.argument(), 7, task.handler(signal));
  run_until(io, [&] { return held.entered(); });
  signal.emit(cancellation_type::total);
  io.poll();  // the cancellation has arrived
  held.open();
  io.run();
  EXPECT_FALSE(task.error.value());
  EXPECT_EQ(task.value, 7);
}

TEST_F(cancellation, partial_asks_a_running_task_to_stop_and_its_result_arrives) {
  process_pool pool(io, one_worker());
  gate held(pool);
  ended task;
  pool.submit(heedful, held.argument(), 7, task.handler(signal));
  run_until(io, [&] { return held.entered(); });
  signal.emit(cancellation_type::partial);
  io.run();
  EXPECT_FALSE(task.error.value());
  EXPECT_EQ(task.value, -7);
  EXPECT_EQ(pool.stats().worker_deaths, 0U);
}

TEST_F(cancellation, partial_never_kills) {
  process_pool pool(io, one_worker(0ms));
  gate held(pool);
  ended task;
  pool.submit(stubborn, held.argument(), 7, task.handler(signal));
  run_until(io, [&] { return held.entered(); });
  signal.emit(cancellation_type::partial);
  io.poll();
  held.open();
  io.run();
  EXPECT_EQ(task.value, 7);
}

TEST_F(cancellation, terminal_lets_a_task_leave_within_the_grace) {
  process_pool pool(io, one_worker(60'000ms));
  gate held(pool);
  ended task;
  pool.submit(heedful, held.argument(), 7, task.handler(signal));
  run_until(io, [&] { return held.entered(); });
  signal.emit(cancellation_type::terminal);
  io.run();
  EXPECT_FALSE(task.error.value());
  EXPECT_EQ(task.value, -7);
}

TEST_F(cancellation, terminal_kills_after_the_grace_and_the_pool_works_on) {
  for (const auto grace : {0ms, 5ms}) {
    process_pool pool(io, one_worker(grace));
    gate held(pool);
    ended task, next;
    pool.submit(stubborn, held.argument(), 7, task.handler(signal));
    run_until(io, [&] { return held.entered(); });
    pool.submit(add, 1, 2, next.handler());
    const auto emitted = std::chrono::steady_clock::now();
    signal.emit(cancellation_type::terminal);
    run_until(io, [&] { return task.error.has_value(); });
    EXPECT_TRUE(is(*task.error, aborted));
    EXPECT_GE(std::chrono::steady_clock::now() - emitted, grace);
    io.run();
    EXPECT_EQ(next.value, 3);
    EXPECT_EQ(pool.stats().workers_started, 2U);
    io.restart();
  }
}

TEST_F(cancellation, partial_may_be_followed_by_terminal) {
  process_pool pool(io, one_worker());
  gate held(pool);
  ended task;
  pool.submit(stubborn, held.argument(), 7, task.handler(signal));
  run_until(io, [&] { return held.entered(); });
  signal.emit(cancellation_type::partial);
  io.poll();
  EXPECT_FALSE(task.error);
  signal.emit(cancellation_type::terminal);
  io.run();
  EXPECT_TRUE(is(task.error.value(), aborted));
}

TEST_F(cancellation, run_returns_when_the_last_task_is_cancelled) {
  process_pool pool(io, one_worker());
  ended task;
  pool.submit(add, 1, 2, task.handler(signal));
  signal.emit(cancellation_type::terminal);
  io.run();
  ASSERT_TRUE(task.error);
  EXPECT_TRUE(!*task.error || is(*task.error, aborted));
}

TEST_F(cancellation, a_timer_stops_a_task_and_its_worker_is_replaced) {
  process_pool pool(io, one_worker());
  run(io, [](process_pool& p) -> asio::awaitable<void> {
    using namespace asio::experimental::awaitable_operators;
    gate held(p);
    const auto winner = co_await (p.submit(never_ends, held.argument()) || entered(held));
    EXPECT_EQ(winner.index(), 1U);
    EXPECT_EQ(co_await p.submit(add, 1, 2), 3);
    EXPECT_EQ(p.stats().workers_started, 2U);
    asio::steady_timer timer(p.get_executor(), 1ms);
    gate another(p);
    EXPECT_EQ((co_await (p.submit(never_ends, another.argument()) || timer.async_wait(asio::use_awaitable))).index(),
              1U);
    EXPECT_EQ(co_await p.submit(add, 3, 4), 7);
  }(pool));
}

TEST_F(cancellation, a_coroutine_can_ask_for_partial_cancellation) {
  process_pool pool(io, one_worker());
  gate held(pool);
  int value = 0;
  asio::co_spawn(
      io,
      [&]() -> asio::awaitable<void> {
        co_await asio::this_coro::reset_cancellation_state(asio::enable_partial_cancellation());
        value = co_await pool.submit(heedful, held.argument(), 7);
      },
      asio::bind_cancellation_slot(signal.slot(), asio::detached));
  run_until(io, [&] { return held.entered(); });
  signal.emit(cancellation_type::partial);
  io.run();
  EXPECT_EQ(value, -7);
}

TEST_F(cancellation, a_signal_from_another_thread_goes_through_a_strand) {
  process_pool pool(io, one_worker());
  const auto strand = asio::make_strand(io);
  gate held(pool);
  std::exception_ptr error;
  asio::post(strand, [&] {
    pool.submit(stubborn, held.argument(), 7,
                asio::bind_executor(strand, asio::bind_cancellation_slot(
                                                signal.slot(), [&](std::exception_ptr e, int) { error = e; })));
  });
  std::thread emitter([&] {
    while (!held.entered()) std::this_thread::yield();
    asio::post(strand, [&] { signal.emit(cancellation_type::terminal); });
  });
  run_until(io, [&] { return held.entered(); });
  emitter.join();
  io.run();
  EXPECT_TRUE(is(error, aborted));
}

TEST_F(cancellation, a_task_that_overruns_its_timeout_ends_with_deadline_exceeded) {
  process_pool pool(io, one_worker());
  gate held(pool);
  ended late, next;
  pool.submit(task_options{.timeout = 5ms}, stubborn, held.argument(), 1, late.handler());
  pool.submit(task_options{.timeout = 1min}, add, 1, 2, next.handler());
  io.run();
  EXPECT_TRUE(is(late.error.value(), errc::deadline_exceeded));
  EXPECT_FALSE(next.error.value());
  EXPECT_EQ(next.value, 3);
}

TEST_F(cancellation, the_timeout_counts_from_the_start_of_the_run) {
  process_pool pool(io, one_worker());
  gate held(pool);
  ended first, second;
  pool.submit(stubborn, held.argument(), 1, first.handler());
  run_until(io, [&] { return held.entered(); });
  pool.submit(task_options{.timeout = 300ms}, add, 1, 2, second.handler());
  asio::steady_timer longer(io, 400ms);
  longer.async_wait([&](asio::error_code) { held.open(); });
  io.run();
  EXPECT_EQ(second.value, 3);
}

TEST_F(cancellation, a_map_ends_with_operation_aborted) {
  process_pool pool(io, one_worker());
  gate held(pool);
  ended blocker;
  pool.submit(stubborn, held.argument(), 1, blocker.handler());
  run_until(io, [&] { return held.entered(); });
  std::optional<std::exception_ptr> error;
  pool.map([](int x) { return x; }, std::vector<int>(1000, 1),
           asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e, std::vector<int> out) {
             error = e;
             EXPECT_TRUE(out.empty());
           }));
  signal.emit(cancellation_type::total);
  io.poll();
  EXPECT_FALSE(error);  // elements may have run for all that a map can promise
  signal.emit(cancellation_type::partial);
  run_until(io, [&] { return error.has_value(); });
  EXPECT_TRUE(is(*error, aborted));
  held.open();
  io.run();
  EXPECT_EQ(blocker.value, 1);
}

TEST_F(cancellation, terminal_stops_the_elements_of_a_map_that_run) {
  process_pool pool(io, one_worker());
  gate held(pool);
  std::vector<array<int>> gates{held.argument()};
  std::optional<std::exception_ptr> error;
  pool.map([](array<int>& flags) { gate::pass(flags, false); }, gates,
           asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) { error = e; }));
  run_until(io, [&] { return held.entered(); });
  signal.emit(cancellation_type::terminal);
  io.run();
  EXPECT_TRUE(is(error.value(), aborted));
  std::future<int> sum = pool.submit(add, 1, 2, asio::use_future);
  io.restart();
  io.run();
  EXPECT_EQ(sum.get(), 3);
}

}  // namespace
}  // namespace shmpool::testing
