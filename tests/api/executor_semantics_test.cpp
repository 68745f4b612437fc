// What people know from other process pools and rely on: never more workers than asked for, initializers that fail, and
// workers that die at the worst of moments (while they are started, idle, between two messages, after their reply).
#include "gate.hpp"
#include "pool_fixture.hpp"

#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using shmpool::array;
using shmpool::errc;

pid_t own_pid() {
  return ::getpid();
}

int add(int a, int b) {
  return a + b;
}

pid_t nap() {
  ::poll(nullptr, 0, 1);
  return ::getpid();
}

shmpool::pool_options workers(unsigned count) {
  auto result = options();
  result.workers = count;
  return result;
}

TEST(saturation, of_a_few_workers_by_many_tasks_starts_no_more_of_them_and_completes_every_task) {
  run([]() -> asio::awaitable<void> {
    constexpr std::size_t count = 600;
    shmpool::process_pool pool(co_await asio::this_coro::executor, workers(3));
    std::deque<pending_result<pid_t>> results(count);
    for (auto& each : results) pool.submit(nap, each.handler());
    std::size_t most = 0;
    std::set<pid_t> seen;
    for (std::size_t i = 0; i != count; ++i) {
      if (i % 30 == 0) most = std::max(most, workers_of(::getpid()).size());
      co_await results[i].ended();
      if (results[i].succeeded()) seen.insert(results[i].value());
    }
    EXPECT_EQ(pool.stats().completed, count);
    EXPECT_EQ(pool.stats().workers_started, 3u);
    EXPECT_EQ(seen.size(), 3u);
    EXPECT_LE(most, 3u);
  }());
}

// ---- Initializers.

void abort_at_once() {
  std::abort();
}
void exit_with_three() {
  std::exit(3);
}
void exit_with_nothing() {
  ::_exit(0);
}

struct bad_start {
  const char* name;
  void (*initializer)();
  const char* cause;
};

class initializer_that_ends_the_worker : public ::testing::TestWithParam<bad_start> {};

TEST_P(initializer_that_ends_the_worker, breaks_the_pool_for_what_waits_and_for_what_comes) {
  run([]() -> asio::awaitable<void> {
    auto chosen = workers(24);
    chosen.initializer = GetParam().initializer;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    std::deque<pending_result<pid_t>> waiting(30);
    for (auto& each : waiting) pool.submit(own_pid, each.handler());
    for (auto& each : waiting) {
      co_await each.ended();
      EXPECT_EQ(code_of(each.error()), errc::pool_broken);
      EXPECT_NE(text_of(each.error()).find(GetParam().cause), std::string::npos) << text_of(each.error());
    }
    pending_result<pid_t> late;
    pool.submit(own_pid, late.handler());
    co_await late.ended();
    EXPECT_EQ(code_of(late.error()), errc::pool_broken);
    EXPECT_NE(text_of(late.error()).find(GetParam().cause), std::string::npos) << text_of(late.error());
    co_await pool.shutdown();
    EXPECT_EQ(pool.stats().workers, 0u);
    EXPECT_EQ(pool.stats().completed, 0u);
  }());
}

INSTANTIATE_TEST_SUITE_P(
    each_way, initializer_that_ends_the_worker,
    ::testing::Values(bad_start{"aborts", abort_at_once, "killed by signal 6, in pool_options::initializer"},
                      bad_start{"exits", exit_with_three, "exit code 3, in pool_options::initializer"},
                      bad_start{"exits_with_success", exit_with_nothing, "exit code 0, in pool_options::initializer"}),
    [](const auto& instance) { return std::string(instance.param.name); });

/// Shared with all workers, as the fork server is this program executed again: in the environment is the file.
int starts_so_far() {
  const std::string path = std::getenv("SHMPOOL_TEST_STARTS");
  const std::string all = path + "." + std::to_string(::getpid());
  std::ofstream(all).put('x');
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(path).parent_path())) {
    (void)entry;
    ++count;
  }
  return count;
}

void fail_at_first() {
  if (starts_so_far() == 1) ::_exit(9);
}

TEST(worker_that_dies_while_it_starts, loses_no_task_and_is_replaced) {
  char directory[] = "/tmp/shmpool_test_XXXXXX";
  ASSERT_NE(::mkdtemp(directory), nullptr);
  ::setenv("SHMPOOL_TEST_STARTS", (std::string(directory) + "/start").c_str(), 1);
  EXPECT_EQ(in_child([] {
              return run([]() -> asio::awaitable<int> {
                auto chosen = workers(1);
                chosen.initializer = fail_at_first;
                shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
                std::deque<pending_result<int>> results(20);
                for (int i = 0; i != 20; ++i) pool.submit(add, i, 1, results[static_cast<std::size_t>(i)].handler());
                for (int i = 0; i != 20; ++i) {
                  auto& each = results[static_cast<std::size_t>(i)];
                  co_await each.ended();
                  if (!each.succeeded() || each.value() != i + 1) co_return 1;
                }
                co_return pool.stats().worker_deaths == 1 && pool.stats().workers_started == 2 ? 0 : 2;
              }());
            }),
            0);
  ::unsetenv("SHMPOOL_TEST_STARTS");
  std::filesystem::remove_all(directory);
}

// ---- Deaths at the worst of moments.

/// Each round is a race between a submit and the news of the death, which the pool may hear before, in between or
/// after. Few rounds for each pool, as it pauses after five deaths.
TEST(worker_that_dies_while_it_is_idle, costs_no_task_whenever_the_next_one_comes) {
  for (int pools = 0; pools != 6; ++pools) {
    run([]() -> asio::awaitable<void> {
      shmpool::process_pool pool(co_await asio::this_coro::executor, workers(1));
      for (int round = 0; round != 5; ++round) {
        const pid_t worker = co_await pool.submit(own_pid);
        ::kill(worker, SIGKILL);
        std::deque<pending_result<int>> results(5);
        for (auto& each : results) pool.submit(add, 40, 2, each.handler());
        for (auto& each : results) {
          co_await each.ended();
          EXPECT_TRUE(each.succeeded()) << text_of(each.error());
        }
      }
    }());
  }
}

std::size_t length_of(const std::vector<std::string>& parts) {
  return std::accumulate(parts.begin(), parts.end(), std::size_t{0},
                         [](std::size_t sum, const std::string& each) { return sum + each.size(); });
}

/// Arguments that fill the socket many times over: the worker dies with half of them read, or none.
TEST(worker_that_dies_while_a_large_argument_is_written_to_it, has_not_started_the_task_which_runs_elsewhere) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, workers(1));
    const std::vector<std::string> parts(100'000, std::string(100, 'x'));
    for (int round = 0; round != 3; ++round) {
      const pid_t worker = co_await pool.submit(own_pid);
      ::kill(worker, SIGSTOP);
      process seen;
      EXPECT_TRUE(happens([&] { return look_at(worker, seen) && seen.state == 'T'; }));
      pending_result<std::size_t> large;
      pool.submit(length_of, parts, large.handler());
      for (int turns = 0; turns != 10; ++turns) co_await asio::post(asio::use_awaitable);
      EXPECT_EQ(pool.stats().assigned, 1u);
      EXPECT_FALSE(large.done());
      ::kill(worker, SIGKILL);
      co_await large.ended();
      if (large.succeeded()) {
        EXPECT_EQ(large.value(), 10'000'000u);
      } else {
        ADD_FAILURE() << text_of(large.error());
      }
    }
    EXPECT_EQ(pool.stats().worker_deaths, 3u);
  }());
}

/// Says that it has begun, and does not sleep before it is told to reply: a worker that sleeps then has replied.
void spin(array<int>& flags) {
  std::atomic_ref(flags[0]).store(::getpid());
  while (std::atomic_ref(flags[1]).load() == 0) {
  }
}
int small_reply(array<int>& flags) {
  spin(flags);
  return 42;
}
array<int> large_reply(array<int>& flags) {
  spin(flags);
  return shmpool::make_array<int>(100'000, shmpool::fill(42));
}

/// Nobody takes the reply in before its sender is dead.
template <class Result>
Result reply_of_the_dead(Result (*task)(array<int>&)) {
  asio::io_context io;
  const watchdog guard;
  shmpool::process_pool pool(io, workers(1));
  pending_result<Result> second;
  {
    gate open(pool);
    open.open();
    pending_result<Result> first;
    pool.submit(task, open.argument(), first.handler());  // the next one has memory for its result beforehand
    io.run();
    io.restart();
  }
  gate shut(pool);
  pool.submit(task, shut.argument(), second.handler());
  run_until(io, [&] { return shut.entered(); });
  const pid_t worker = std::as_const(shut.argument())[0];
  shut.open();
  process seen;
  EXPECT_TRUE(happens([&] { return look_at(worker, seen) && seen.state == 'S'; }));
  ::kill(worker, SIGKILL);
  EXPECT_TRUE(happens([&] { return is_gone(worker); }));
  io.restart();
  io.run();
  if (second.error()) std::rethrow_exception(second.error());
  return second.value();
}

TEST(worker_that_dies_after_its_reply, has_done_its_task) {
  EXPECT_EQ(reply_of_the_dead(small_reply), 42);
}

TEST(worker_that_dies_after_its_reply, has_made_its_array) {
  const auto result = reply_of_the_dead(large_reply);
  EXPECT_EQ(result.size(), 100'000u);
  EXPECT_EQ(result[99'999], 42);
}

TEST(all_workers_killed_at_once, cost_what_they_ran_and_nothing_of_a_full_queue) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, workers(4));
    std::deque<gate> gates;
    std::deque<pending_result<int>> running(4), queued(300);
    for (auto& each : running) {
      gates.emplace_back(pool);
      pool.submit(stubborn, gates.back().argument(), 1, each.handler());
    }
    for (auto& each : gates) co_await entered(each);
    for (int i = 0; i != 300; ++i) pool.submit(add, i, 1, queued[static_cast<std::size_t>(i)].handler());
    for (const pid_t each : workers_of(::getpid())) ::kill(each, SIGKILL);
    for (auto& each : running) {
      co_await each.ended();
      const auto lost = as_worker_lost(each.error());
      EXPECT_TRUE(lost && lost->started() && lost->signal() == SIGKILL);
    }
    for (int i = 0; i != 300; ++i) {
      auto& each = queued[static_cast<std::size_t>(i)];
      co_await each.ended();
      EXPECT_TRUE(each.succeeded() && each.value() == i + 1) << i << ": " << text_of(each.error());
    }
    EXPECT_EQ(pool.stats().worker_deaths, 4u);
    EXPECT_EQ(pool.stats().failed, 4u);
  }());
}

// ---- A pool in a task.

int sum_in_a_pool_of_its_own(int count) {
  return run([](int tasks) -> asio::awaitable<int> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, options());
    int sum = 0;
    for (int i = 0; i != tasks; ++i) sum += co_await pool.submit(add, i, 0);
    co_await pool.shutdown();
    co_return sum;
  }(count));
}

void hold(array<int>& flag) {
  flag[1] = ::getppid();
  show(flag, ::getpid());
  for (;;) ::poll(nullptr, 0, 1000);
}

/// Never ends, with a pool whose worker shows its pid and that of its fork server.
void hold_a_pool(array<int>& flag) {
  asio::io_context io;
  shmpool::process_pool pool(io, options());
  signal_flag inner(pool);
  pool.submit(hold, inner.memory, asio::detached);
  while (inner.read() == 0) io.poll();
  flag[1] = inner.memory[1];
  flag[2] = inner.read();
  show(flag, ::getpid());
  for (;;) io.poll();
}

TEST(task, may_have_a_pool_of_its_own) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, options());
    EXPECT_EQ(co_await pool.submit(sum_in_a_pool_of_its_own, 5), 10);
    EXPECT_EQ(co_await pool.submit(sum_in_a_pool_of_its_own, 5), 10);  // perhaps in the same worker
  }());
}

TEST(task, that_is_killed_takes_its_own_pool_with_it) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.cancel_grace = 0ms;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    signal_flag flag(pool);
    asio::cancellation_signal cancel;
    pending_result<void> result;
    pool.submit(hold_a_pool, flag.memory, asio::bind_cancellation_slot(cancel.slot(), result.handler()));
    EXPECT_TRUE(co_await until([&] { return flag.read() != 0; }));
    const auto names = pools_of(flag.read());
    cancel.emit(asio::cancellation_type::terminal);
    co_await result.ended();
    for (const pid_t each : {flag.read(), flag.memory[1], flag.memory[2]}) {
      EXPECT_TRUE(each > 1 && happens([&] { return is_dead(each); })) << each;
    }
    for (const auto& each : names) EXPECT_TRUE(happens([&] { return names_with(each).empty(); })) << each;
  }());
}

}  // namespace
