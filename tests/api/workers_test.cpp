// The life of worker processes: when they are started, how many, and that nothing of them is left afterwards.
#include "gate.hpp"
#include "pool_fixture.hpp"

#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <poll.h>

#include <algorithm>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using shmpool::array;

pid_t own_pid() {
  return ::getpid();
}

pid_t parent_pid() {
  return ::getppid();
}

/// Shows its pid and runs until it is asked to stop.
void hold(array<int>& flag) {
  show(flag, ::getpid());
  while (!shmpool::this_task::stop_requested()) ::poll(nullptr, 0, 1);
}

/// Shows its pid and never ends.
void hold_for_ever(array<int>& flag) {
  show(flag, ::getpid());
  for (;;) ::poll(nullptr, 0, 1000);
}

std::string initialized_by;

void initialize() {
  initialized_by += std::to_string(::getpid()) + ";";
}

std::string what_initialize_did() {
  return initialized_by;
}

void refuse_to_initialize() {
  throw std::domain_error("no licence for this machine");
}

array<double> kept_in_worker;

void keep(array<double> values) {
  kept_in_worker = std::move(values);
}

TEST(workers, none_is_started_before_the_first_submit) {
  // Those of earlier tests are dead; the fork server reaps the last one in its own time.
  ASSERT_TRUE(happens([] { return workers_of(::getpid()).empty(); }));
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, options());
    auto memory = pool.make_array<double>(100'000, 1.0);
    EXPECT_EQ(pool.stats().workers, 0u);
    EXPECT_EQ(pool.stats().workers_started, 0u);
    EXPECT_TRUE(workers_of(::getpid()).empty());
    EXPECT_NE(co_await pool.submit(own_pid), ::getpid());
    EXPECT_EQ(pool.stats().workers_started, 1u);
  }());
}

TEST(workers, are_started_one_for_each_task_that_runs_at_once_up_to_the_count) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, options());
    signal_flag first(pool), second(pool), third(pool);
    asio::cancellation_signal stop_first, stop_second, stop_third;
    pending_result<void> one, two, three;
    pool.submit(hold, first.memory, asio::bind_cancellation_slot(stop_first.slot(), one.handler()));
    EXPECT_TRUE(co_await until([&] { return first.read() != 0; }));
    EXPECT_EQ(workers_of(::getpid()).size(), 1u);
    pool.submit(hold, second.memory, asio::bind_cancellation_slot(stop_second.slot(), two.handler()));
    pool.submit(hold, third.memory, asio::bind_cancellation_slot(stop_third.slot(), three.handler()));
    EXPECT_TRUE(co_await until([&] { return second.read() != 0; }));
    EXPECT_EQ(workers_of(::getpid()).size(), 2u);
    EXPECT_EQ(third.read(), 0);
    EXPECT_EQ(pool.stats().queued, 1u);
    stop_first.emit(asio::cancellation_type::partial);
    EXPECT_TRUE(co_await until([&] { return third.read() != 0; }));
    EXPECT_EQ(third.read(), first.read()) << "the worker that has become free takes it";
    stop_second.emit(asio::cancellation_type::partial);
    stop_third.emit(asio::cancellation_type::partial);
    co_await two.ended();
    co_await three.ended();
    EXPECT_EQ(pool.stats().workers_started, 2u);
  }());
}

TEST(workers, one_that_is_idle_is_used_before_another_is_started) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, options());
    std::set<pid_t> used;
    for (int i = 0; i != 20; ++i) used.insert(co_await pool.submit(own_pid));
    EXPECT_EQ(used.size(), 1u);
    EXPECT_EQ(pool.stats().workers_started, 1u);
  }());
}

TEST(workers, are_children_of_the_fork_server_and_not_of_the_application) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, options());
    const pid_t server = co_await pool.submit(parent_pid);
    EXPECT_EQ(server, fork_server_of(::getpid()));
    EXPECT_NE(server, ::getpid());
  }());
}

TEST(workers, run_the_initializer_once_each_before_their_first_task) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 1;
    chosen.initializer = initialize;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    const pid_t worker = co_await pool.submit(own_pid);
    EXPECT_EQ(co_await pool.submit(what_initialize_did), std::to_string(worker) + ";");
    ::kill(worker, SIGKILL);
    EXPECT_TRUE(happens([&] { return is_gone(worker); }));
    const pid_t next = co_await pool.submit(own_pid);
    EXPECT_NE(next, worker);
    EXPECT_EQ(co_await pool.submit(what_initialize_did), std::to_string(next) + ";");
  }());
}

TEST(workers, an_initializer_that_throws_breaks_the_pool_which_says_so) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.initializer = refuse_to_initialize;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    for (int i = 0; i != 2; ++i) {
      pending_result<pid_t> result;
      pool.submit(own_pid, result.handler());
      co_await result.ended();
      EXPECT_EQ(code_of(result.error()), shmpool::errc::pool_broken);
      EXPECT_NE(text_of(result.error()).find("no licence for this machine"), std::string::npos)
          << text_of(result.error());
      EXPECT_NE(text_of(result.error()).find("initializer"), std::string::npos) << text_of(result.error());
    }
  }());
}

TEST(workers, one_that_was_killed_while_idle_is_replaced_without_anybody_noticing) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 1;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    const pid_t worker = co_await pool.submit(own_pid);
    ::kill(worker, SIGKILL);
    EXPECT_TRUE(happens([&] { return is_gone(worker); })) << "the fork server has not reaped it";
    const pid_t next = co_await pool.submit(own_pid);
    EXPECT_NE(next, worker);
    EXPECT_EQ(pool.stats().worker_deaths, 1u);
    EXPECT_EQ(pool.stats().workers_started, 2u);
  }());
}

TEST(workers, shutdown_clears_what_a_worker_had_kept_beyond_its_task) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.backing = shmpool::backing::posix;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    co_await pool.submit(keep, pool.make_array<double>(1'000'000, 1.0));
    EXPECT_EQ(pool.stats().live_segments, 1u) << "the worker holds it";
    co_await pool.shutdown();
    EXPECT_EQ(pool.stats().live_segments, 0u);
    EXPECT_EQ(pool.stats().cached_segments, 0u);
  }());
}

TEST(workers, a_pool_that_is_destroyed_aborts_its_tasks_and_leaves_no_process_and_no_name) {
  asio::io_context io;
  const watchdog guard;
  pending_result<void> running, waiting;
  pending_result<void> also_running, mapped;
  std::string names;
  { const shmpool::process_pool first_one(io, options()); }  // starts the fork server, whose socket stays
  const auto before = open_descriptors();
  const auto pools_before = pools_of(::getpid());
  {
    auto chosen = options();
    chosen.backing = shmpool::backing::posix;
    shmpool::process_pool pool(io, chosen);
    for (const auto& each : pools_of(::getpid())) {
      if (std::find(pools_before.begin(), pools_before.end(), each) == pools_before.end()) names = each;
    }
    ASSERT_FALSE(names.empty());
    signal_flag first(pool), second(pool), third(pool);
    pool.submit(hold_for_ever, first.memory, running.handler());
    pool.submit(hold_for_ever, second.memory, also_running.handler());
    pool.submit(hold_for_ever, third.memory, waiting.handler());
    pool.map([](int) {}, std::vector<int>(100, 1), mapped.handler());
    run_until(io, [&] { return first.read() != 0 && second.read() != 0; });
    const auto start = std::chrono::steady_clock::now();
    { const shmpool::process_pool destroyed(std::move(pool)); }
    EXPECT_LT(std::chrono::steady_clock::now() - start, 1s);
    EXPECT_TRUE(is_dead(first.read()));
    EXPECT_TRUE(is_dead(second.read()));
    EXPECT_FALSE(running.done()) << "handlers are not called from inside the destructor";
  }
  EXPECT_EQ(names_with(names), std::vector<std::string>());
  EXPECT_TRUE(happens([] { return workers_of(::getpid()).empty(); })) << "the fork server reaps them";
  io.run();
  for (auto* each : {&running, &also_running, &waiting, &mapped}) {
    EXPECT_TRUE(each->done());
    EXPECT_EQ(code_of(each->error()), make_error_code(asio::error::operation_aborted));
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST(workers, a_pool_that_is_destroyed_while_workers_are_being_started_leaves_none) {
  const watchdog guard;
  for (int i = 0; i != 30; ++i) {
    asio::io_context io;
    pending_result<pid_t> one, two;
    {
      shmpool::process_pool pool(io, options());
      pool.submit(own_pid, one.handler());
      pool.submit(own_pid, two.handler());
    }
    io.run();
    EXPECT_TRUE(one.done() && two.done());
    for (const pid_t each : workers_of(::getpid())) EXPECT_TRUE(is_dead(each)) << "after " << i;
  }
  EXPECT_TRUE(happens([] { return workers_of(::getpid()).empty(); }));
}

TEST(workers, one_that_is_suspended_holds_neither_the_destructor_nor_a_terminal_cancellation_up) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.cancel_grace = 0ms;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    signal_flag flag(pool), other(pool);
    pending_result<void> cancelled, aborted;
    asio::cancellation_signal cancel;
    pool.submit(hold_for_ever, flag.memory, asio::bind_cancellation_slot(cancel.slot(), cancelled.handler()));
    pool.submit(hold_for_ever, other.memory, aborted.handler());
    EXPECT_TRUE(co_await until([&] { return flag.read() != 0 && other.read() != 0; }));
    ::kill(flag.read(), SIGSTOP);
    ::kill(other.read(), SIGSTOP);
    cancel.emit(asio::cancellation_type::terminal);
    co_await cancelled.ended();
    EXPECT_EQ(code_of(cancelled.error()), make_error_code(asio::error::operation_aborted));
    EXPECT_EQ(co_await pool.submit(parent_pid), fork_server_of(::getpid())) << "it was replaced";
    const auto start = std::chrono::steady_clock::now();
    { const shmpool::process_pool destroyed(std::move(pool)); }
    EXPECT_LT(std::chrono::steady_clock::now() - start, 1s);
    EXPECT_TRUE(is_dead(other.read()));
    co_await aborted.ended();
  }());
}

}  // namespace
