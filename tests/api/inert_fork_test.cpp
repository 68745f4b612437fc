// A process that the application forks itself has the pool's memory and descriptors, and is not its owner: whatever it
// does, the pool of the parent goes on and loses nothing.
#include "gate.hpp"
#include "pool_fixture.hpp"

#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <sys/wait.h>

#include <atomic>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using shmpool::array;

pid_t own_pid() {
  return ::getpid();
}

double sum(array<const double> values) {
  double result = 0;
  for (const double each : values) result += each;
  return result;
}

/// A pool with a worker, a warm segment and an array, and a check that all of it is still there and works.
class inert_fork : public ::testing::Test {
 protected:
  template <class Function, class... Args>
  auto submit(Function fn, Args&&... args) {
    const watchdog guard;
    pending_result<std::invoke_result_t<Function, Args...>> result;
    pool->submit(fn, std::forward<Args>(args)..., result.handler());
    io.run();
    io.restart();
    if (result.error()) std::rethrow_exception(result.error());
    return result.value();
  }

  inert_fork() {
    pool.emplace(io, chosen());
    values = pool->make_array<double>(100'000, 1.0);
    { auto warm = pool->make_array<double>(1'000'000, 2.0); }
    worker = submit(own_pid);
    names = names_with(pools_of(::getpid()).at(0));
  }

  static shmpool::pool_options chosen() {
    auto result = options();
    result.workers = 1;
    result.backing = shmpool::backing::posix;
    return result;
  }

  void expect_untouched() {
    EXPECT_EQ(names_with(pools_of(::getpid()).at(0)), names);
    EXPECT_EQ(submit(own_pid), worker) << "the same worker serves";
    EXPECT_EQ(submit(sum, values), 100'000.0);
    EXPECT_EQ(values[99'999], 1.0);
    EXPECT_EQ(pool->stats().worker_deaths, 0u);
  }

  asio::io_context io;
  std::optional<shmpool::process_pool> pool;
  array<double> values;
  pid_t worker = 0;
  std::vector<std::string> names;
};

TEST_F(inert_fork, that_leaves_at_once_kills_and_unlinks_nothing) {
  EXPECT_EQ(in_child([] { return 0; }), 0);
  expect_untouched();
}

TEST_F(inert_fork, that_destroys_its_copy_of_the_pool_kills_and_unlinks_nothing) {
  EXPECT_EQ(in_child([&] {
              pool.reset();
              values = {};
              return 0;
            }),
            0);
  expect_untouched();
}

TEST_F(inert_fork, that_destroys_its_copy_of_a_busy_pool_leaves_the_task_alone) {
  gate shut(*pool);
  pending_result<int> running;
  pool->submit(stubborn, shut.argument(), 42, running.handler());
  run_until(io, [&] { return shut.entered(); });
  EXPECT_EQ(in_child([&] {
              pool.reset();
              return running.done() ? 1 : 0;
            }),
            0);
  EXPECT_FALSE(running.done());
  shut.open();
  const watchdog guard;
  io.restart();
  io.run();
  io.restart();
  ASSERT_TRUE(running.succeeded()) << text_of(running.error());
  EXPECT_EQ(running.value(), 42);
  EXPECT_EQ(submit(own_pid), worker);
}

TEST_F(inert_fork, that_stops_or_clears_its_copy_of_the_pool_changes_nothing) {
  EXPECT_EQ(in_child([&] {
              pool->stop();
              const auto cleared = pool->clear_shm();
              if (cleared.freed != 0) return 1;
              pool->shutdown([](std::exception_ptr) {});
              shmpool::reap_orphans();
              return 0;
            }),
            0);
  expect_untouched();
}

TEST_F(inert_fork, that_submits_is_told_that_the_pool_is_not_its_own) {
  EXPECT_EQ(in_child([&] {
              io.notify_fork(asio::execution_context::fork_child);
              pending_result<pid_t> result;
              pool->submit(own_pid, result.handler());
              io.run();
              if (code_of(result.error()) != shmpool::errc::pool_closed) return 1;
              const auto memory = thrown_by([&] { pool->make_array<double>(1'000'000); });
              return code_of(memory) == shmpool::errc::pool_closed ? 0 : 2;
            }),
            0);
  expect_untouched();
}

/// Its completion was put where only the parent takes completions from.
TEST_F(inert_fork, that_shuts_its_copy_of_the_pool_down_is_done_at_once) {
  EXPECT_EQ(in_child([&] {
              io.notify_fork(asio::execution_context::fork_child);
              const watchdog guard;
              pending_result<void> down;
              pool->shutdown(down.handler());
              if (down.done()) return 1;  // not from inside
              io.run();
              return down.succeeded() ? 0 : 2;
            }),
            0);
  expect_untouched();
}

TEST_F(inert_fork, that_forks_again_makes_inert_copies_too) {
  EXPECT_EQ(in_child([&] {
              return in_child([&] {
                pool->stop();
                if (pool->clear_shm().freed != 0) return 1;
                pool.reset();
                values = {};
                asio::io_context own;
                shmpool::process_pool second(own, chosen());
                auto result = second.submit(own_pid, asio::use_future);
                own.run();
                return result.get() != worker ? 0 : 2;
              });
            }),
            0);
  expect_untouched();
}

/// Locks that other threads hold at the moment of the fork are locked for ever in the copy, which hung in stats() or in
/// the destructor.
TEST_F(inert_fork, of_a_pool_that_other_threads_are_using_can_be_looked_at_and_destroyed) {
  const watchdog guard;
  std::atomic<bool> enough{false};
  auto work = asio::make_work_guard(io);
  std::vector<std::thread> others;
  for (int i = 0; i != 2; ++i) {
    others.emplace_back([&] { io.run(); });
    others.emplace_back([&] {
      while (!enough) {
        pool->submit(own_pid, [](std::exception_ptr, pid_t) {});
        static_cast<void>(pool->stats());
        static_cast<void>(pool->clear_shm());
      }
    });
  }
  for (int round = 0; round != 100; ++round) {
    const int status = in_child(
        [&] {
          static_cast<void>(pool->stats());
          if (pool->clear_shm().freed != 0) return 1;
          pool->stop();
          pool.reset();
          return 0;
        },
        20s);
    EXPECT_EQ(status, 0);
    if (status != 0) break;
  }
  enough = true;
  work.reset();
  for (auto& each : others) each.join();
  io.restart();
  EXPECT_EQ(submit(own_pid), worker);
}

TEST_F(inert_fork, that_leaves_by_exit_takes_no_fork_server_with_it) {
  EXPECT_EQ(run_as_program("inert_fork.DISABLED_leaves_by_exit"), 0);
}

TEST_F(inert_fork, DISABLED_leaves_by_exit) {
  const pid_t server = fork_server_of(::getpid());
  const pid_t child = ::fork();
  if (child == 0) std::exit(0);
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(fork_server_of(::getpid()), server);
  expect_untouched();
}

TEST_F(inert_fork, may_have_pools_of_its_own) {
  EXPECT_EQ(in_child([&] {
              asio::io_context own;
              shmpool::process_pool second(own, chosen());
              auto result = second.submit(own_pid, asio::use_future);
              own.run();
              if (result.get() == worker) return 1;
              const bool its_own = fork_server_of(::getpid()) != 0 && pools_of(::getpid()).size() == 1;
              return its_own ? 0 : 2;
            }),
            0);
  expect_untouched();
}

TEST_F(inert_fork, that_lives_on_with_all_descriptors_delays_neither_the_pools_end_nor_the_applications) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(run_as_program("inert_fork.DISABLED_outlives_the_application"), 0);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 900ms)
      << "to wait for what cannot be seen while the copies are open takes a second";
}

TEST_F(inert_fork, DISABLED_outlives_the_application) {
  const pid_t server = fork_server_of(::getpid());
  if (::fork() == 0) {
    ::_exit(happens([&] { return is_gone(server); }) ? 0 : 1);  // it keeps all that it has inherited until then
  }
  pending_result<pid_t> never_started;
  pool->submit(own_pid, never_started.handler());
  pool.reset();
  io.run();
  EXPECT_TRUE(is_dead(worker));
}

}  // namespace
