// Workers over time: kept from the start, sent away when idle, replaced after so many tasks or when they have grown,
// and what the pool tells of those that end.
#include "api/gate.hpp"
#include "api/pool_fixture.hpp"
#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <unistd.h>

#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace shmpool::testing {
namespace {

pid_t who() {
  return ::getpid();
}

int fails(int) {
  ::_exit(3);
}

/// Exits as a pool tells of them.
struct exits {
  std::vector<worker_exit> seen;
  auto hook() {
    return [this](const worker_exit& each) { seen.push_back(each); };
  }
  std::size_t count(worker_exit::reason why) const {
    return static_cast<std::size_t>(
        std::count_if(seen.begin(), seen.end(), [why](const worker_exit& each) { return each.why == why; }));
  }
};

TEST(min_workers, are_there_before_the_first_submit_and_are_replaced_when_they_die) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 3;
    chosen.min_workers = 2;
    process_pool pool(co_await asio::this_coro::executor, chosen);
    EXPECT_TRUE(co_await until([&] {
      const pool_stats now = pool.stats();
      return now.workers == 2 && now.starting_workers == 0 && now.idle_workers == 2;
    }));
    const pid_t victim = co_await pool.submit(who);
    ::kill(victim, SIGKILL);
    EXPECT_TRUE(co_await until([&] {
      const pool_stats now = pool.stats();
      return now.worker_deaths == 1 && now.workers_started == 3 && now.idle_workers == 2;
    }));
  }());
}

TEST(idle_timeout, sends_workers_away_that_have_nothing_to_do_even_if_nobody_runs_the_context) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    exits seen;
    chosen.idle_timeout = std::chrono::milliseconds(30);
    chosen.min_workers = 1;
    chosen.on_worker_exit = seen.hook();
    process_pool pool(co_await asio::this_coro::executor, chosen);
    gate first(pool), second(pool);
    std::deque<pending_result<int>> results(2);
    pool.submit(stubborn, first.argument(), 1, results[0].handler());
    pool.submit(stubborn, second.argument(), 2, results[1].handler());
    co_await entered(first);
    co_await entered(second);
    const std::set<pid_t> both = {first.argument()[0], second.argument()[0]};
    first.open();
    second.open();
    for (auto& each : results) co_await each.ended();
    // Nothing of the pool runs here: the worker decides on its own.
    EXPECT_TRUE(happens([&] { return std::any_of(both.begin(), both.end(), is_gone); }));
    EXPECT_TRUE(co_await until([&] { return pool.stats().workers == 1; }));
    EXPECT_EQ(pool.stats().worker_deaths, 0u);
    EXPECT_EQ(pool.stats().workers_retired, 1u);
    EXPECT_TRUE(co_await until([&] { return seen.count(worker_exit::reason::idle) == 1; }));
    EXPECT_EQ(seen.seen[0].exit_code, 0);
    const pid_t left = co_await pool.submit(who);
    EXPECT_EQ(both.count(left), 1u) << "the one that stays";
    EXPECT_FALSE(is_gone(left));
    EXPECT_EQ(pool.stats().workers_started, 2u);
  }());
}

// "For ever" overflowed on its way to the kernel, and the worker left after each task.
TEST(idle_timeout, may_be_as_long_as_a_number_can_say) {
  for (const auto timeout : {std::chrono::milliseconds::max(), std::chrono::milliseconds(9'460'800'000'000'000)}) {
    run([timeout]() -> asio::awaitable<void> {
      auto chosen = options();
      chosen.workers = 1;
      chosen.idle_timeout = timeout;
      process_pool pool(co_await asio::this_coro::executor, chosen);
      const pid_t first = co_await pool.submit(who);
      for (int i = 0; i != 5; ++i) EXPECT_EQ(co_await pool.submit(who), first);
    }());
  }
}

/// A submit that crosses with a worker's leaving is run by another one, unnoticed.
TEST(idle_timeout, never_costs_a_task) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 1;
    chosen.idle_timeout = std::chrono::milliseconds(1);
    process_pool pool(co_await asio::this_coro::executor, chosen);
    asio::steady_timer pause(co_await asio::this_coro::executor);
    for (int i = 0; i != 150; ++i) {
      EXPECT_GT(co_await pool.submit(who), 0);
      pause.expires_after(std::chrono::microseconds(500 + 10 * i));  // around the timeout
      co_await pause.async_wait(asio::use_awaitable);
    }
    EXPECT_EQ(pool.stats().worker_deaths, 0u);
    EXPECT_EQ(pool.stats().completed, 150u);
  }());
}

class max_tasks_per_worker : public ::testing::TestWithParam<unsigned> {};

TEST_P(max_tasks_per_worker, is_exactly_what_each_runs_and_the_backlog_survives) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    exits seen;
    chosen.max_tasks_per_worker = GetParam();
    chosen.on_worker_exit = seen.hook();
    process_pool pool(co_await asio::this_coro::executor, chosen);
    constexpr std::size_t count = 120;
    std::deque<pending_result<pid_t>> results(count);
    for (auto& each : results) pool.submit(who, each.handler());
    std::map<pid_t, unsigned> tasks;
    for (auto& each : results) {
      co_await each.ended();
      EXPECT_TRUE(each.succeeded()) << text_of(each.error());
      if (each.succeeded()) ++tasks[each.value()];
    }
    unsigned full = 0;
    for (const auto& [pid, ran] : tasks) {
      EXPECT_LE(ran, GetParam());
      full += ran == GetParam();
    }
    EXPECT_GE(full + 2, tasks.size()) << "only the last of the two workers may have room left";
    co_await pool.shutdown();
    EXPECT_TRUE(co_await until([&] { return seen.seen.size() == pool.stats().workers_started; }));
    EXPECT_EQ(seen.count(worker_exit::reason::retired), seen.seen.size());
    for (const worker_exit& each : seen.seen) EXPECT_EQ(each.tasks, tasks[each.pid]);
    EXPECT_EQ(pool.stats().worker_deaths, 0u);
  }());
}

INSTANTIATE_TEST_SUITE_P(of, max_tasks_per_worker, ::testing::Values(1u, 2u, 7u, 100u));

TEST(max_tasks_per_worker_with_one_worker, starts_the_next_one_before_the_last_task_has_ended) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 1;
    chosen.max_tasks_per_worker = 1;
    process_pool pool(co_await asio::this_coro::executor, chosen);
    gate held(pool);
    pending_result<int> first;
    pool.submit(stubborn, held.argument(), 1, first.handler());
    co_await entered(held);
    EXPECT_TRUE(co_await until([&] { return pool.stats().workers == 2 && pool.stats().starting_workers == 0; }));
    pending_result<pid_t> second;
    pool.submit(who, second.handler());
    EXPECT_FALSE(co_await until([&] { return second.done(); }, std::chrono::milliseconds(20)))
        << "one task at a time with one worker";
    held.open();
    co_await first.ended();
    co_await second.ended();
    EXPECT_NE(second.value(), held.argument()[0]);
  }());
}

std::size_t hoard(std::size_t bytes) {
  static std::vector<std::vector<char>> kept;
  kept.emplace_back(bytes, 'x');
  return kept.size();
}

TEST(max_worker_rss, replaces_a_worker_that_has_grown_beyond_it) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 1;
    chosen.max_worker_rss = 128 * 1024 * 1024;
    exits seen;
    chosen.on_worker_exit = seen.hook();
    process_pool pool(co_await asio::this_coro::executor, chosen);
    const pid_t first = co_await pool.submit(who);
    EXPECT_EQ(co_await pool.submit(hoard, std::size_t{1024}), 1u);
    EXPECT_EQ(co_await pool.submit(hoard, std::size_t{200} * 1024 * 1024), 2u);
    EXPECT_TRUE(co_await until([&] { return pool.stats().workers_retired == 1; }));
    EXPECT_NE(co_await pool.submit(who), first);
    EXPECT_EQ(co_await pool.submit(hoard, std::size_t{1024}), 1u) << "a fresh process";
    EXPECT_TRUE(co_await until([&] { return !seen.seen.empty(); }));
    EXPECT_EQ(seen.seen[0].pid, first);
    EXPECT_EQ(seen.seen[0].why, worker_exit::reason::retired);
    EXPECT_GE(seen.seen[0].max_rss_bytes, std::uint64_t{200} * 1024 * 1024);
  }());
}

TEST(max_worker_rss, does_not_count_arrays) {
#if defined(__SANITIZE_ADDRESS__)
  constexpr std::size_t unit = std::size_t{256} * 1024 * 1024;  // what the sanitizer needs for itself is private, too
#else
  constexpr std::size_t unit = std::size_t{64} * 1024 * 1024;
#endif
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 1;
    chosen.max_worker_rss = unit;
    process_pool pool(co_await asio::this_coro::executor, chosen);
    auto big = pool.make_array<char>(2 * unit, fill('a'));
    for (int i = 0; i != 3; ++i) {
      EXPECT_EQ(co_await pool.submit(
                    +[](shmpool::array<const char> from) {
                      return static_cast<std::size_t>(std::count(from.begin(), from.end(), 'a'));
                    },
                    big),
                big.size());
    }
    co_await pool.submit(who);
    EXPECT_EQ(pool.stats().workers_started, 1u);
  }());
}

TEST(on_worker_exit, tells_of_crashes_and_kills_with_pid_status_and_tasks) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 1;
    chosen.cancel_grace = std::chrono::milliseconds(10);
    exits seen;
    chosen.on_worker_exit = seen.hook();
    process_pool pool(co_await asio::this_coro::executor, chosen);
    const pid_t first = co_await pool.submit(who);
    pending_result<int> crashed;
    pool.submit(fails, 1, crashed.handler());
    co_await crashed.ended();
    EXPECT_TRUE(co_await until([&] { return seen.seen.size() == 1; }));
    EXPECT_EQ(seen.seen[0].why, worker_exit::reason::died);
    EXPECT_EQ(seen.seen[0].pid, first);
    EXPECT_TRUE(seen.seen[0].status_known);
    EXPECT_EQ(seen.seen[0].exit_code, 3);
    EXPECT_EQ(seen.seen[0].tasks, 1u);

    gate endless(pool);
    pending_result<int> late;
    pool.submit(task_options{.timeout = std::chrono::milliseconds(20)}, stubborn, endless.argument(), 1,
                late.handler());
    co_await late.ended();
    EXPECT_EQ(code_of(late.error()), errc::deadline_exceeded);
    EXPECT_TRUE(co_await until([&] { return seen.seen.size() == 2; }));
    EXPECT_EQ(seen.seen[1].why, worker_exit::reason::killed);
    EXPECT_EQ(seen.seen[1].signal, SIGKILL);
    EXPECT_EQ(pool.stats().workers_killed, 1u);
    EXPECT_EQ(pool.stats().worker_deaths, 1u);
    EXPECT_EQ(pool.stats().failures.worker_lost, 1u);
    EXPECT_EQ(pool.stats().failures.deadline_exceeded, 1u);
  }());
}

/// A worker that is stopped does not read that it is to leave: shutdown() would wait for ever.
TEST(shutdown, ends_although_an_idle_worker_is_stopped) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 1;
    process_pool pool(co_await asio::this_coro::executor, chosen);
    const pid_t worker = co_await pool.submit(who);
    ::kill(worker, SIGSTOP);
    co_await pool.shutdown();
    EXPECT_TRUE(is_dead(worker));
    EXPECT_EQ(pool.stats().workers, 0u);
  }());
}

}  // namespace
}  // namespace shmpool::testing
