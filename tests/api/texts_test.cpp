// What errors say is true of the case at hand.
#include "support/faults.hpp"
#include "support/processes.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace shmpool::testing;
using asio::awaitable;
using shmpool::array;
using shmpool::errc;
using shmpool::process_pool;

void burn() {
  for (std::atomic<unsigned long> turns = 0;;) ++turns;
}
void two(array<double>& a, array<const double> b) {
  a[0] = b[0];
}
std::size_t count(const std::vector<array<const double>>& all) {
  return all.size();
}
std::vector<array<double>> many_arrays(std::size_t n) {
  const auto one = shmpool::make_array<double>(some, 1.0);
  return std::vector<array<double>>(n, one);
}
pid_t stop_oneself() {
  ::kill(::getpid(), SIGSTOP);
  return ::getpid();
}

TEST(texts, a_worker_that_has_used_up_its_cpu_time_is_lost_to_rlimit_cpu) {
  run([]() -> awaitable<void> {
    auto chosen = with_workers(1);
    chosen.rlimits = {{RLIMIT_CPU, 1}};
    process_pool pool(co_await asio::this_coro::executor, chosen);
    const auto error = co_await end_of<void>(pool, burn);
    EXPECT_EQ(code_of(error), errc::worker_lost);
    EXPECT_NE(text_of(error).find("RLIMIT_CPU is 1 s"), std::string::npos) << text_of(error);
    EXPECT_EQ(text_of(error).find("memory runs out"), std::string::npos) << text_of(error);
  }());
}

TEST(texts, a_worker_killed_from_outside_is_not_said_to_have_been_by_the_pool) {
  run([]() -> awaitable<void> {
    process_pool pool(co_await asio::this_coro::executor, with_workers(1));
    pending_result<pid_t> stopped;
    pool.submit(stop_oneself, stopped.handler());
    EXPECT_TRUE(co_await until([] {
      for (const pid_t worker : workers_of(::getpid())) {
        process seen;
        if (look_at(worker, seen) && seen.state == 'T') return ::kill(worker, SIGKILL) == 0;
      }
      return false;
    }));
    co_await stopped.ended();
    EXPECT_EQ(text_of(stopped.error()).find("pool"), std::string::npos) << text_of(stopped.error());
    EXPECT_NE(text_of(stopped.error()).find("memory runs out"), std::string::npos);
  }());
}

// "await that task first" was said where there was no other task.
TEST(texts, an_array_is_busy_with_another_task_or_with_the_same_call) {
  run([]() -> awaitable<void> {
    process_pool pool(co_await asio::this_coro::executor, with_workers(1));
    auto x = pool.make_array<double>(some, 1.0);
    auto small = pool.make_array<double>(10, 1.0);
    auto head = x.rows(0, 15'000), tail = x.rows(10'000, some);
    const auto whole = co_await end_of<void>(pool, two, x, x);
    const auto part = co_await end_of<void>(pool, two, head, tail);
    const auto copied = co_await end_of<void>(pool, two, small, small);
    for (const auto& error : {whole, part, copied}) {
      EXPECT_EQ(code_of(error), errc::array_busy);
      EXPECT_NE(text_of(error).find("two arguments of this call"), std::string::npos) << text_of(error);
      EXPECT_EQ(text_of(error).find("await"), std::string::npos) << text_of(error);
    }
    pending_result<pid_t> stopped;
    pending_result<void> writing;
    auto y = pool.make_array<double>(some, 1.0);
    pool.submit(stop_oneself, stopped.handler());
    pool.submit(two, x, y, writing.handler());  // waits behind it
    const auto error = co_await end_of<void>(pool, two, x, y);
    EXPECT_EQ(code_of(error), errc::array_busy);
    EXPECT_NE(text_of(error).find("await that task first"), std::string::npos) << text_of(error);
    EXPECT_TRUE(co_await until([] {
      for (const pid_t worker : workers_of(::getpid())) {
        process seen;
        if (look_at(worker, seen) && seen.state == 'T') return ::kill(worker, SIGCONT) == 0;
      }
      return false;
    }));
    co_await stopped.ended();
    co_await writing.ended();
  }());
}

// More arrays than a message refers to were said to be more than 1 GiB.
TEST(texts, too_many_arrays_are_not_said_to_be_too_many_bytes) {
  run([]() -> awaitable<void> {
    process_pool pool(co_await asio::this_coro::executor, with_workers(1));
    const auto one = pool.make_array<double>(some, 1.0);
    EXPECT_EQ(co_await pool.submit(count, std::vector<array<const double>>(131'072, one)), 131'072u);
    const auto arguments = co_await end_of<std::size_t>(pool, count, std::vector<array<const double>>(131'073, one));
    const auto result = co_await end_of<std::vector<array<double>>>(pool, many_arrays, 131'073);
    for (const auto& error : {arguments, result}) {
      EXPECT_EQ(code_of(error), errc::message_too_large) << text_of(error);
      EXPECT_NE(text_of(error).find("131073 arrays"), std::string::npos) << text_of(error);
      EXPECT_NE(text_of(error).find("131,072"), std::string::npos) << text_of(error);
    }
  }());
}

}  // namespace
