// task_options::deadline, which counts from the submit, and task_options::cancel_grace.
#include "api/gate.hpp"
#include "api/pool_fixture.hpp"
#include "support/pending_result.hpp"

#include <chrono>
#include <csignal>
#include <stdexcept>
#include <vector>

namespace shmpool::testing {
namespace {

using namespace std::chrono_literals;

int add(int a, int b) {
  return a + b;
}

/// One worker, so that a second task waits behind the first; a pool's grace that no test has the time to wait for.
pool_options one_worker() {
  pool_options result = options();
  result.workers = 1;
  result.cancel_grace = 10min;
  return result;
}

TEST(deadline, ends_a_task_in_the_queue_and_one_that_runs) {
  run([]() -> asio::awaitable<void> {
    process_pool pool(co_await asio::this_coro::executor, one_worker());
    gate held(pool);
    pending_result<int> runs, waits;
    pool.submit(task_options{.deadline = 50ms, .cancel_grace = 1ms}, stubborn, held.argument(), 1, runs.handler());
    pool.submit(task_options{.deadline = 10ms}, add, 1, 2, waits.handler());
    co_await waits.ended();
    EXPECT_EQ(code_of(waits.error()), errc::deadline_exceeded);
    EXPECT_FALSE(runs.done()) << "one that waits ends at once, whatever is before it";
    co_await runs.ended();
    EXPECT_EQ(code_of(runs.error()), errc::deadline_exceeded) << "killed after its own grace, not the pool's";
    EXPECT_EQ(co_await pool.submit(task_options{.deadline = 1min}, add, 40, 2), 42);
    EXPECT_EQ(pool.stats().failures.deadline_exceeded, 2U);
  }());
}

TEST(deadline, ends_a_task_that_waits_for_room) {
  run([]() -> asio::awaitable<void> {
    auto chosen = one_worker();
    chosen.max_pending = 1;
    process_pool pool(co_await asio::this_coro::executor, chosen);
    gate held(pool);
    pending_result<int> runs, waits;
    pool.submit(heedful, held.argument(), 1, runs.handler());
    pool.submit(task_options{.deadline = 5ms}, add, 1, 2, waits.handler());
    EXPECT_EQ(pool.stats().held, 1U);
    co_await waits.ended();
    EXPECT_EQ(code_of(waits.error()), errc::deadline_exceeded);
    EXPECT_FALSE(runs.done());
    held.open();
    co_await runs.ended();
    EXPECT_EQ(co_await pool.submit(add, 40, 2), 42) << "its place in the queue for room is free";
  }());
}

TEST(deadline, of_a_map_counts_from_the_call_of_map) {
  run([]() -> asio::awaitable<void> {
    process_pool pool(co_await asio::this_coro::executor, one_worker());
    // Each element alone is far from its deadline, but there are more of them than there is time for.
    std::vector<int> elements(10'000, 2'000);
    try {
      co_await pool.map(
          task_options{.deadline = 50ms, .cancel_grace = 1ms},
          [](int us) { return ::usleep(static_cast<unsigned>(us)); }, elements);
      ADD_FAILURE() << "twenty seconds in fifty milliseconds";
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code(), errc::deadline_exceeded);
    }
    elements.resize(2);
    EXPECT_EQ((co_await pool.map(
                   task_options{.deadline = 1min}, [](int x) { return x; }, elements))
                  .size(),
              2U);
  }());
}

int crash_or_stay(array<int>& flags) {
  // The first attempt ends at once, the second stays.
  if (std::atomic_ref<int>(flags[2]).fetch_add(1) == 0) ::raise(SIGKILL);
  return stubborn(flags, 1);
}

TEST(deadline, spans_all_attempts) {
  run([]() -> asio::awaitable<void> {
    process_pool pool(co_await asio::this_coro::executor, one_worker());
    gate held(pool);
    pending_result<int> result;
    pool.submit(task_options{.deadline = 100ms, .cancel_grace = 1ms, .idempotent = true, .attempts = 5}, crash_or_stay,
                held.argument(), result.handler());
    co_await result.ended();
    EXPECT_EQ(code_of(result.error()), errc::deadline_exceeded);
    EXPECT_EQ(std::atomic_ref<int>(held.argument()[2]).load(), 2);
  }());
}

TEST(cancel_grace, of_a_task_counts_for_its_cancellation_too) {
  run([]() -> asio::awaitable<void> {
    process_pool pool(co_await asio::this_coro::executor, one_worker());
    gate held(pool);
    asio::cancellation_signal stop;
    pending_result<int> result;
    pool.submit(task_options{.cancel_grace = 0ms}, stubborn, held.argument(), 1,
                asio::bind_cancellation_slot(stop.slot(), result.handler()));
    EXPECT_TRUE(co_await until([&] { return held.entered(); }));
    stop.emit(asio::cancellation_type::terminal);
    co_await result.ended();
    EXPECT_EQ(code_of(result.error()), asio::error::make_error_code(asio::error::operation_aborted));
  }());
}

TEST(deadline, and_grace_must_not_be_negative) {
  run([]() -> asio::awaitable<void> {
    process_pool pool(co_await asio::this_coro::executor, one_worker());
    for (const task_options& wrong : {task_options{.deadline = -1ns}, task_options{.cancel_grace = -1ms}}) {
      pending_result<int> submitted;
      pool.submit(wrong, add, 1, 2, submitted.handler());
      co_await submitted.ended();
      EXPECT_NE(text_of(submitted.error()).find("must not be negative"), std::string::npos);
      pending_result<std::vector<int>> mapped;
      pool.map(
          wrong, [](int x) { return x; }, std::vector<int>{1}, mapped.handler());
      co_await mapped.ended();
      EXPECT_NE(text_of(mapped.error()).find("must not be negative"), std::string::npos);
    }
    EXPECT_EQ(co_await pool.submit(task_options{.deadline = std::chrono::nanoseconds::max(),
                                                .cancel_grace = std::chrono::milliseconds::max()},
                                   add, 40, 2),
              42);
  }());
}

}  // namespace
}  // namespace shmpool::testing
