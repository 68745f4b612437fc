// Promises about names that somebody removes from /dev/shm under a pool that lives, as systemd-logind does when a user
// logs out (RemoveIPC), and about workers that cannot open names any more.
#include "loop/system_call_filter.hpp"
#include "support/faults.hpp"
#include "support/processes.hpp"

#include <shmpool/shm_handle.hpp>

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

namespace {

using namespace shmpool::testing;
using asio::awaitable;
using shmpool::array;
using shmpool::errc;
using shmpool::process_pool;

shmpool::pool_options named() {
  auto chosen = with_workers(1);
  chosen.backing = shmpool::backing::posix;
  return chosen;
}

/// Removes all names of the pools of this process; returns how many.
std::size_t remove_names() {
  std::size_t count = 0;
  for (const std::string& pool : pools_of(::getpid())) {
    for (const std::string& name : names_with(pool)) count += std::filesystem::remove("/dev/shm/" + name) ? 1U : 0U;
  }
  return count;
}

bool has_lock_file(const std::string& pool) {
  return std::filesystem::exists("/dev/shm/" + pool + "lock");
}

double last_of(array<const double> x) {
  return x[x.size() - 1];
}
double last_of_vector(const std::vector<double>& x) {
  return x.back();
}
void double_all(array<double>& x) {
  for (double& each : x) each *= 2;
}
array<double> make(std::size_t count, double value) {
  return shmpool::make_array<double>(count, value);
}
array<double> make_and_remove_the_name(std::size_t count) {
  auto made = shmpool::make_array<double>(count, 1.0);
  std::filesystem::remove("/dev/shm/" + made.handle().name());
  return made;
}
void crash() {
  ::_exit(3);
}

// Every submit with such an array failed with ENOENT, an error of the system's category, until the cache had forgotten
// it.
TEST(lost_names, are_not_noticed_by_tasks) {
  run([]() -> awaitable<void> {
    process_pool pool(co_await asio::this_coro::executor, named());
    auto lent = pool.make_array<double>(some, 1.0), also = pool.make_array<double>(some, 2.0);
    EXPECT_EQ(co_await pool.submit(last_of, lent), 1.0) << "mapped by the worker, but not for writing";
    auto made = co_await pool.submit(make, some, 3.0);
    { const auto cached = pool.make_array<double>(3 * some, 1.0); }
    { const auto cached = co_await pool.submit(make, 5 * some, 1.0); }
    EXPECT_GE(remove_names(), 6u);

    EXPECT_EQ(co_await pool.submit(last_of, also), 2.0) << "not known there yet";
    co_await pool.submit(double_all, lent);
    EXPECT_EQ(lent[some - 1], 2.0) << "the same memory";
    co_await pool.submit(double_all, made);
    EXPECT_EQ(made[some - 1], 6.0);
    for (int i = 0; i != 3; ++i) {
      EXPECT_EQ(co_await pool.submit(last_of, pool.make_array<double>(3 * some, 4.0)), 4.0)
          << "one from the cache, before";
      EXPECT_EQ(co_await pool.submit(last_of_vector, std::vector<double>(5 * some, 5.0)), 5.0);
      const array<double> result = co_await pool.submit(make, 5 * some, 6.0);
      EXPECT_EQ(result[5 * some - 1], 6.0);
    }
    // Another worker has to be given descriptors for all of them.
    EXPECT_EQ(code_of(co_await end_of<void>(pool, crash)), errc::worker_lost);
    co_await pool.submit(double_all, lent);
    EXPECT_EQ(lent[0], 4.0);
    EXPECT_EQ(co_await pool.submit(last_of, also), 2.0);
    EXPECT_EQ(co_await pool.submit(last_of, made), 6.0);
    EXPECT_EQ(pool.stats().worker_deaths, 1u);
    lent = also = made = {};
    EXPECT_EQ(pool.stats().live_segments, 0u);
  }());
}

TEST(lost_names, of_a_lock_file_is_made_again_and_protects_the_pool) {
  run([]() -> awaitable<void> {
    process_pool pool(co_await asio::this_coro::executor, named());
    const auto pools = pools_of(::getpid());
    EXPECT_EQ(pools.size(), 1u);
    const auto lent = pool.make_array<double>(some, 1.0);
    const std::string name = "/dev/shm/" + lent.handle().name();
    std::filesystem::remove("/dev/shm/" + pools.front() + "lock");
    // Nothing has happened at this pool since: what is mapped is not an orphan although there is no lock file.
    EXPECT_EQ(in_child([] { return static_cast<int>(shmpool::reap_orphans().segments); }), 0);
    EXPECT_TRUE(std::filesystem::exists(name));
    const auto fresh = pool.make_array<double>(7 * some, 1.0);
    EXPECT_TRUE(has_lock_file(pools.front()));
    EXPECT_EQ(in_child([] { return static_cast<int>(shmpool::reap_orphans().pools); }), 0);
    EXPECT_TRUE(std::filesystem::exists(name));
    EXPECT_EQ(pools_of(::getpid()), pools) << "the same name as before";
    // A pool at work looks, too.
    std::filesystem::remove("/dev/shm/" + pools.front() + "lock");
    EXPECT_TRUE(co_await until([&] {
      pool.submit(last_of, lent, asio::detached);
      return has_lock_file(pools.front());
    }));
    co_await pool.shutdown();
  }());
  EXPECT_TRUE(pools_of(::getpid()).empty());
}

TEST(lost_names, of_a_result_on_its_way_is_an_error_that_says_so_and_costs_no_worker) {
  run([]() -> awaitable<void> {
    process_pool pool(co_await asio::this_coro::executor, named());
    const auto error = co_await end_of<array<double>>(pool, make_and_remove_the_name, some);
    EXPECT_EQ(code_of(error), errc::shm_exhausted) << text_of(error);
    EXPECT_NE(text_of(error).find("removed its name"), std::string::npos) << text_of(error);
    EXPECT_EQ((co_await pool.submit(make, some, 2.0))[0], 2.0);
    const auto now = pool.stats();
    EXPECT_EQ(now.workers_started, 1u);
    EXPECT_EQ(now.live_segments, 0u);
  }());
}

// Only so many descriptors are kept. What none is kept of is lost to workers that do not have it mapped.
TEST(lost_names, of_more_arrays_than_descriptors_are_kept_of_fail_their_tasks_only) {
  EXPECT_EQ(in_child([] {
              return run([]() -> awaitable<int> {
                const rlimit few{120, 120};
                ::setrlimit(RLIMIT_NOFILE, &few);
                process_pool pool(co_await asio::this_coro::executor, named());
                std::vector<array<double>> all;
                for (int i = 0; i != 30; ++i) all.push_back(pool.make_array<double>(some, double(i)));
                { const std::vector<array<double>> cached(3, pool.make_array<double>(9 * some, 1.0)); }
                remove_names();
                std::size_t failed = 0;
                for (std::size_t i = 0; i != all.size(); ++i) {
                  pending_result<double> result;
                  pool.submit(last_of, all[i], result.handler());
                  co_await result.ended();
                  if (result.succeeded()) {
                    SHMPOOL_STEP(result.value() == double(i));
                    continue;
                  }
                  ++failed;
                  SHMPOOL_STEP(code_of(result.error()) == errc::shm_exhausted);
                  SHMPOOL_STEP(text_of(result.error()).find("removed its name") != std::string::npos);
                }
                SHMPOOL_STEP(failed == 30 - 15);  // an eighth of 120
                SHMPOOL_STEP(co_await pool.submit(last_of, pool.make_array<double>(9 * some, 3.0)) == 3.0);
                SHMPOOL_STEP((co_await pool.submit(make, some, 2.0))[0] == 2.0);
                SHMPOOL_STEP(pool.stats().workers_started == 1);
                co_return 0;
              }());
            }),
            0);
}

bool locked_in = false;
void lock_itself_in() {
  locked_in = shmpool::loop::deny_system_call(SYS_openat, EACCES);
}
bool is_locked_in() {
  return locked_in;
}

// A worker that gives up its right to open files could not be lent an array.
TEST(lost_names, are_not_needed_by_a_worker_that_may_open_nothing) {
  for (const auto backing : {shmpool::backing::automatic, shmpool::backing::posix}) {
    run([&]() -> awaitable<void> {
      auto chosen = with_workers(1);
      chosen.backing = backing;
      chosen.initializer = lock_itself_in;
      process_pool pool(co_await asio::this_coro::executor, chosen);
      auto lent = pool.make_array<double>(some, 1.0);
      if (!co_await pool.submit(is_locked_in)) co_return;  // no filters here
      EXPECT_EQ(co_await pool.submit(last_of, lent), 1.0);
      co_await pool.submit(double_all, lent);
      EXPECT_EQ(lent[some - 1], 2.0);
      const array<double> made = co_await pool.submit(make, some, 3.0);
      EXPECT_EQ(made[some - 1], 3.0);
      EXPECT_EQ(made.handle().name().empty(), backing == shmpool::backing::automatic);
      EXPECT_EQ(pool.stats().workers_started, 1u);
    }());
  }
}

}  // namespace
