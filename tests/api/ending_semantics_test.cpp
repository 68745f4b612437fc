// Several who end the same thing at once: cancellation while the pool shuts down, shutdown() and stop() in each order
// and from several threads, cancellation against completion. Everything completes once.
#include "gate.hpp"
#include "pool_fixture.hpp"

#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using asio::cancellation_type;
using shmpool::array;
using shmpool::errc;

int add(int a, int b) {
  return a + b;
}

pid_t own_pid() {
  return ::getpid();
}

int work(int microseconds) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(microseconds);
  while (std::chrono::steady_clock::now() < until) {
  }
  return microseconds;
}

shmpool::pool_options one_worker() {
  auto result = options();
  result.workers = 1;
  result.cancel_grace = 10ms;
  return result;
}

bool aborted(const std::exception_ptr& error) {
  return code_of(error) == make_error_code(asio::error::operation_aborted);
}

// ---- Cancellation while the pool shuts down.

class cancellation_during_shutdown : public ::testing::TestWithParam<cancellation_type> {};

TEST_P(cancellation_during_shutdown, removes_a_task_that_waits) {
  asio::io_context io;
  const watchdog guard;
  shmpool::process_pool pool(io, one_worker());
  gate shut(pool);
  pending_result<int> running, cancelled, behind;
  pending_result<void> down;
  asio::cancellation_signal signal;
  pool.submit(stubborn, shut.argument(), 1, running.handler());
  run_until(io, [&] { return shut.entered(); });
  pool.submit(add, 1, 1, asio::bind_cancellation_slot(signal.slot(), cancelled.handler()));
  pool.submit(add, 2, 2, behind.handler());
  pool.shutdown(down.handler());
  signal.emit(GetParam());
  run_until(io, [&] { return cancelled.done(); });
  EXPECT_TRUE(aborted(cancelled.error())) << text_of(cancelled.error());
  EXPECT_FALSE(running.done() || down.done());
  shut.open();
  io.run();
  EXPECT_TRUE(running.succeeded() && behind.succeeded() && down.succeeded());
}

/// Total leaves it alone, partial asks it, terminal kills it: with it goes the last thing that shutdown() waits for.
TEST_P(cancellation_during_shutdown, does_to_a_task_that_runs_what_it_does_otherwise) {
  asio::io_context io;
  const watchdog guard;
  shmpool::process_pool pool(io, one_worker());
  gate shut(pool);
  pending_result<int> running;
  pending_result<void> down;
  asio::cancellation_signal signal;
  const bool terminal = GetParam() == cancellation_type::terminal;
  pool.submit(terminal ? stubborn : heedful, shut.argument(), 7,
              asio::bind_cancellation_slot(signal.slot(), running.handler()));
  run_until(io, [&] { return shut.entered(); });
  pool.shutdown(down.handler());
  signal.emit(GetParam());
  if (GetParam() == cancellation_type::total) {
    io.poll();
    EXPECT_FALSE(running.done() || down.done());
    shut.open();
  }
  io.restart();
  io.run();
  EXPECT_TRUE(down.succeeded());
  if (terminal) {
    EXPECT_TRUE(aborted(running.error()));
  } else {
    ASSERT_TRUE(running.succeeded()) << text_of(running.error());
    EXPECT_EQ(running.value(), GetParam() == cancellation_type::total ? 7 : -7);
  }
  EXPECT_EQ(pool.stats().workers, 0u);
}

INSTANTIATE_TEST_SUITE_P(each_kind, cancellation_during_shutdown,
                         ::testing::Values(cancellation_type::total, cancellation_type::partial,
                                           cancellation_type::terminal),
                         [](const auto& instance) {
                           switch (instance.param) {
                             case cancellation_type::total: return "total";
                             case cancellation_type::partial: return "partial";
                             default: return "terminal";
                           }
                         });

// ---- shutdown() and stop().

TEST(shutdown, after_stop_completes_when_the_workers_are_gone) {
  asio::io_context io;
  const watchdog guard;
  shmpool::process_pool pool(io, one_worker());
  gate shut(pool);
  pending_result<int> running;
  pending_result<void> first, second;
  pool.submit(stubborn, shut.argument(), 1, running.handler());
  run_until(io, [&] { return shut.entered(); });
  const auto workers = workers_of(::getpid());
  pool.stop();
  pool.shutdown(first.handler());
  pool.stop();
  pool.shutdown(second.handler());
  io.restart();
  io.run();
  EXPECT_TRUE(aborted(running.error()));
  EXPECT_TRUE(first.succeeded() && second.succeeded());
  ASSERT_EQ(workers.size(), 1u);
  EXPECT_TRUE(is_dead(workers[0]));
}

TEST(shutdown, and_stop_on_many_threads_at_once_complete_everything_once) {
  for (int round = 0; round != 20; ++round) {
    asio::thread_pool runners(2);
    shmpool::process_pool pool(runners, options());
    std::atomic<int> ended{0}, down{0}, wrong{0};
    constexpr int tasks = 60, enders = 4;
    for (int i = 0; i != tasks; ++i) {
      pool.submit(work, 500, [&](std::exception_ptr error, int) {
        if (error && !aborted(error)) ++wrong;
        ++ended;
      });
    }
    std::vector<std::thread> threads;
    for (int index = 0; index != enders; ++index) {
      threads.emplace_back([&, index] {
        while (ended < round) std::this_thread::yield();  // at another moment in each round
        if (index % 2 == 0) pool.stop();
        pool.shutdown([&](std::exception_ptr error) {
          if (error) ++wrong;
          ++down;
        });
      });
    }
    for (auto& each : threads) each.join();
    const watchdog guard;
    runners.join();
    EXPECT_EQ(ended, tasks);
    EXPECT_EQ(down, enders);
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(pool.stats().workers, 0u);
  }
}

// ---- Cancellation against completion.

/// Any kind at any moment around the end of a task: it ends with its value or with operation_aborted, once, and the
/// pool serves on.
TEST(cancellation_and_completion, race_a_thousand_times_and_one_of_them_wins) {
  const watchdog guard(std::chrono::seconds(120));
  asio::thread_pool runners(3);
  auto chosen = options();
  chosen.cancel_grace = 0ms;
  shmpool::process_pool pool(runners, chosen);
  struct one {
    explicit one(asio::thread_pool& on) : strand(asio::make_strand(on)) {}
    asio::strand<asio::thread_pool::executor_type> strand;
    asio::cancellation_signal signal;
    std::atomic<int> calls{0};
  };
  constexpr int rounds = 1000;
  std::deque<one> all;
  for (int i = 0; i != rounds; ++i) all.emplace_back(runners);
  std::atomic<int> next{0}, values{0}, aborts{0}, wrong{0};
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed != 4; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937 random(seed);
      for (int i = next++; i < rounds; i = next++) {
        one& mine = all[static_cast<std::size_t>(i)];
        const int length = static_cast<int>(random() % 200);
        asio::post(mine.strand, [&, length] {
          pool.submit(work, length,
                      asio::bind_executor(
                          mine.strand, asio::bind_cancellation_slot(mine.signal.slot(),
                                                                    [&, length](std::exception_ptr error, int value) {
                                                                      ++mine.calls;
                                                                      if (!error && value == length) ++values;
                                                                      else if (error && aborted(error)) ++aborts;
                                                                      else ++wrong;
                                                                    })));
        });
        work(static_cast<int>(random() % 300));
        constexpr cancellation_type kinds[] = {cancellation_type::total, cancellation_type::partial,
                                               cancellation_type::terminal};
        asio::post(mine.strand, [&mine, kind = kinds[random() % 3]] { mine.signal.emit(kind); });
      }
    });
  }
  for (auto& each : threads) each.join();
  pending_result<pid_t> late;
  pool.submit(own_pid, late.handler());
  runners.join();
  EXPECT_EQ(values + aborts, rounds);
  EXPECT_EQ(wrong, 0);
  for (const one& each : all) EXPECT_EQ(each.calls, 1);
  EXPECT_TRUE(late.succeeded()) << text_of(late.error());
  EXPECT_EQ(pool.stats().worker_deaths, 0u) << "killed on request is no death";
}

// ---- Storms.

TEST(storm, of_submits_from_several_threads_while_workers_are_killed_completes_each_once) {
  const watchdog guard(std::chrono::seconds(120));
  asio::thread_pool runners(2);
  shmpool::process_pool pool(runners, options());
  constexpr int submitters = 4, each = 2500, kills = 5;
  std::atomic<int> values{0}, lost{0}, wrong{0};
  std::vector<std::atomic<int>> calls(submitters * each);
  std::vector<std::thread> threads;
  for (int index = 0; index != submitters; ++index) {
    threads.emplace_back([&, index] {
      for (int i = 0; i != each; ++i) {
        const int number = index * each + i;
        pool.submit(add, number, 1, [&, number](std::exception_ptr error, int value) {
          ++calls[static_cast<std::size_t>(number)];
          if (!error && value == number + 1) ++values;
          else if (code_of(error) == errc::worker_lost) ++lost;
          else ++wrong;
        });
      }
    });
  }
  int killed = 0;
  while (killed != kills && values + lost + wrong != submitters * each) {
    const auto workers = workers_of(::getpid());
    if (!workers.empty() && ::kill(workers[static_cast<std::size_t>(killed) % workers.size()], SIGKILL) == 0) ++killed;
    ::poll(nullptr, 0, 5);
  }
  for (auto& thread : threads) thread.join();
  runners.join();
  EXPECT_EQ(values + lost, submitters * each);
  EXPECT_EQ(wrong, 0);
  EXPECT_LE(lost, killed) << "one death, one casualty";
  for (const auto& times : calls) EXPECT_EQ(times, 1);
}

}  // namespace
