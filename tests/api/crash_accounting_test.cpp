// What a crash says, and of whom: tasks that crash are their own affair, however many they are; a pool whose workers
// cannot be kept alive says so, and serves again when they can.
#include "gate.hpp"
#include "pool_fixture.hpp"

#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using shmpool::errc;
using shmpool::pool_health;

/// A file that the test makes and removes, and that its workers look for: its name is made of the pid of the test
/// program.
std::filesystem::path remedy_of(pid_t application) {
  return std::filesystem::temp_directory_path() / ("shmpool_remedy." + std::to_string(application));
}

/// Called in a worker.
bool remedied() {
  process server;
  return look_at(::getppid(), server) && std::filesystem::exists(remedy_of(server.parent));
}

class remedy {
 public:
  remedy() { withdraw(); }
  remedy(const remedy&) = delete;
  remedy& operator=(const remedy&) = delete;
  ~remedy() { withdraw(); }
  void apply() { std::ofstream(remedy_of(::getpid())) << "here"; }
  void withdraw() {
    std::error_code ignored;
    std::filesystem::remove(remedy_of(::getpid()), ignored);
  }
};

int twice(int x) {
  return 2 * x;
}

void crash(int with) {
  ::_exit(with);
}

int crash_at_seven(int x) {
  if (x == 7) ::_exit(7);
  return x;
}

int crash_unless_remedied() {
  if (!remedied()) ::_exit(5);
  return 5;
}

void crash_at_start_unless_remedied() {
  if (!remedied()) ::_exit(3);
}

void throw_at_start_unless_remedied() {
  if (!remedied()) throw std::runtime_error("no licence");
}

asio::awaitable<std::exception_ptr> error_of_twice(shmpool::process_pool& pool, int x) {
  pending_result<int> result;
  pool.submit(twice, x, result.handler());
  co_await result.ended();
  if (result.succeeded()) {
    EXPECT_EQ(result.value(), 2 * x);
  }
  co_return result.error();
}

// Twenty requests that crashed broke the pool for good, and from the sixth on starting paused, for seconds in the end.
TEST(crash_accounting, a_burst_of_crashing_tasks_neither_fails_nor_holds_up_healthy_ones) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, options());
    constexpr int count = 150;
    std::deque<pending_result<void>> crashing(2 * count);
    std::deque<pending_result<int>> healthy(count);
    for (std::size_t i = 0; i != healthy.size(); ++i) {
      pool.submit(crash, 9, crashing[2 * i].handler());
      pool.submit(twice, static_cast<int>(i), healthy[i].handler());
      pool.submit(crash, 9, crashing[2 * i + 1].handler());
    }
    for (std::size_t i = 0; i != healthy.size(); ++i) {
      co_await healthy[i].ended();
      EXPECT_TRUE(healthy[i].succeeded()) << text_of(healthy[i].error());
      EXPECT_EQ(pool.stats().health, pool_health::healthy);
      EXPECT_FALSE(pool.stats().next_start) << "no pause at any time";
    }
    for (auto& each : crashing) {
      co_await each.ended();
      EXPECT_EQ(code_of(each.error()), errc::worker_lost) << text_of(each.error());
    }
    EXPECT_EQ(pool.stats().worker_deaths, 2u * count);
    EXPECT_FALSE(co_await error_of_twice(pool, 21));
  }());
}

TEST(crash_accounting, an_attempt_is_a_worker_and_an_idempotent_task_has_as_many_as_it_may) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, options());
    std::deque<pending_result<void>> crashing(10);
    shmpool::task_options again;
    again.idempotent = true;
    again.attempts = 4;
    for (auto& each : crashing) pool.submit(again, crash, 9, each.handler());
    for (auto& each : crashing) {
      co_await each.ended();
      EXPECT_EQ(code_of(each.error()), errc::worker_lost) << text_of(each.error());
    }
    EXPECT_EQ(pool.stats().worker_deaths, 40u);
    EXPECT_FALSE(co_await error_of_twice(pool, 1));
  }());
}

// One signal to the process group ended them all, which counted as 24 crashes and broke the pool.
TEST(crash_accounting, all_idle_workers_killed_at_once_are_one_accident) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = chosen.min_workers = 24;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    for (int round = 0; round != 3; ++round) {
      EXPECT_FALSE(co_await error_of_twice(pool, round));
      EXPECT_TRUE(
          co_await until([&] { return pool.stats().idle_workers == 24 && pool.stats().starting_workers == 0; }));
      const auto idle = workers_of(::getpid());
      EXPECT_EQ(idle.size(), 24u);
      for (const pid_t each : idle) ::kill(each, SIGKILL);
      EXPECT_TRUE(
          happens([&] { return std::all_of(idle.begin(), idle.end(), [](pid_t each) { return is_gone(each); }); }));
      std::deque<pending_result<int>> results(48);
      for (auto& each : results) pool.submit(twice, 4, each.handler());
      for (auto& each : results) {
        co_await each.ended();
        EXPECT_TRUE(each.succeeded()) << text_of(each.error());
      }
      EXPECT_EQ(pool.stats().health, pool_health::healthy);
    }
    EXPECT_EQ(pool.stats().worker_deaths, 72u);
  }());
}

struct bad_start {
  const char* name;
  void (*initializer)();
  const char* text;
};
void PrintTo(const bad_start& which, std::ostream* out) {
  *out << which.name;
}

class pool_that_cannot_start : public ::testing::TestWithParam<bad_start> {};

// It was broken for as long as it lived: a file that was not there for a moment ended the service.
TEST_P(pool_that_cannot_start, says_so_at_every_submit_and_serves_when_the_cause_is_gone) {
  run([]() -> asio::awaitable<void> {
    remedy file;
    auto chosen = options();
    chosen.initializer = GetParam().initializer;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    const auto is_clear = [](const std::exception_ptr& error) {
      EXPECT_EQ(code_of(error), errc::pool_broken) << text_of(error);
      EXPECT_NE(text_of(error).find(GetParam().text), std::string::npos) << text_of(error);
      EXPECT_NE(text_of(error).find("tries again"), std::string::npos) << text_of(error);
    };
    std::deque<pending_result<int>> waiting(5);
    for (auto& each : waiting) pool.submit(twice, 1, each.handler());
    for (auto& each : waiting) {
      co_await each.ended();
      is_clear(each.error());
    }
    EXPECT_EQ(pool.stats().health, pool_health::broken);
    is_clear(co_await error_of_twice(pool, 2));
    EXPECT_TRUE(co_await until([&] { return std::chrono::steady_clock::now() >= *pool.stats().next_start; }));
    is_clear(co_await error_of_twice(pool, 3));  // this one was tried
    file.apply();
    EXPECT_TRUE(co_await until([&] { return std::chrono::steady_clock::now() >= *pool.stats().next_start; }));
    EXPECT_FALSE(co_await error_of_twice(pool, 4));
    EXPECT_EQ(pool.stats().health, pool_health::healthy);
    EXPECT_FALSE(pool.stats().next_start);
    // What was refused at submit is in none of the counts. A submit that has something to send looks at the workers,
    // too, so that those behind it may be refused already; the first, and the one that was tried, never are.
    EXPECT_GE(pool.stats().failures.pool_broken, 2u);
    EXPECT_LE(pool.stats().failures.pool_broken, 6u);
  }());
}

// It was all or nothing: a pool lost the workers that it had when new ones could not start.
TEST_P(pool_that_cannot_start, keeps_the_workers_that_it_has) {
  run([]() -> asio::awaitable<void> {
    remedy file;
    file.apply();
    auto chosen = options();
    chosen.workers = 2;
    chosen.initializer = GetParam().initializer;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    EXPECT_FALSE(co_await error_of_twice(pool, 1));
    gate first(pool);
    pending_result<int> held;
    pool.submit(stubborn, first.argument(), 77, held.handler());
    co_await entered(first);
    file.withdraw();
    std::deque<pending_result<int>> waiting(5);
    for (auto& each : waiting) pool.submit(twice, 1, each.handler());
    EXPECT_TRUE(co_await until([&] { return pool.stats().health == pool_health::failing; }));
    EXPECT_TRUE(pool.stats().next_start);
    first.open();
    co_await held.ended();
    EXPECT_TRUE(held.succeeded() && held.value() == 77);
    for (auto& each : waiting) {
      co_await each.ended();
      EXPECT_TRUE(each.succeeded()) << text_of(each.error());
    }
  }());
}

INSTANTIATE_TEST_SUITE_P(initializers, pool_that_cannot_start,
                         ::testing::Values(bad_start{"that_crash", crash_at_start_unless_remedied, "exit code 3"},
                                           bad_start{"that_throw", throw_at_start_unless_remedied, "no licence"}),
                         [](const auto& each) { return each.param.name; });

TEST(quarantine, of_a_function_is_off_unless_it_is_asked_for) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, options());
    for (int i = 0; i != 30; ++i) {
      pending_result<void> result;
      pool.submit(crash, 1, result.handler());
      co_await result.ended();
      EXPECT_EQ(code_of(result.error()), errc::worker_lost) << text_of(result.error());
    }
  }());
}

TEST(quarantine, of_a_function_that_kills_leaves_others_alone_and_ends_when_one_call_ends_well) {
  run([]() -> asio::awaitable<void> {
    remedy file;
    auto chosen = options();
    chosen.quarantine_function_after = 3;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    const auto attempt = [&]() -> asio::awaitable<std::exception_ptr> {
      pending_result<int> result;
      pool.submit(crash_unless_remedied, result.handler());
      co_await result.ended();
      co_return result.error();
    };
    for (int i = 0; i != 3; ++i) {
      const auto error = co_await attempt();
      EXPECT_EQ(code_of(error), errc::worker_lost) << text_of(error);
    }
    const auto error = co_await attempt();
    EXPECT_EQ(code_of(error), errc::quarantined) << text_of(error);
    EXPECT_NE(text_of(error).find("let through in"), std::string::npos) << text_of(error);
    EXPECT_EQ(pool.stats().quarantined_functions, 1u);
    EXPECT_FALSE(co_await error_of_twice(pool, 4));
    file.apply();
    for (;;) {
      const auto next = co_await attempt();
      if (!next) break;
      EXPECT_EQ(code_of(next), errc::quarantined) << text_of(next);
      EXPECT_FALSE(co_await error_of_twice(pool, 5));  // let the time pass
    }
    EXPECT_FALSE(co_await attempt());
    EXPECT_EQ(pool.stats().quarantined_functions, 0u);
    EXPECT_EQ(pool.stats().worker_deaths, 3u);
  }());
}

TEST(quarantine, of_a_call_leaves_other_arguments_alone) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.quarantine_call_after = 2;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    const auto with = [&](int x) -> asio::awaitable<std::error_code> {
      pending_result<int> result;
      pool.submit(crash_at_seven, x, result.handler());
      co_await result.ended();
      co_return code_of(result.error());
    };
    for (int i = 0; i != 2; ++i) {
      EXPECT_EQ(co_await with(7), errc::worker_lost);
      EXPECT_EQ(co_await with(8), std::error_code());
    }
    for (int i = 0; i != 5; ++i) EXPECT_EQ(co_await with(7), errc::quarantined);
    EXPECT_EQ(co_await with(8), std::error_code());
    EXPECT_EQ(pool.stats().worker_deaths, 2u);
    EXPECT_FALSE(co_await error_of_twice(pool, 7)) << "another function";
  }());
}

}  // namespace
