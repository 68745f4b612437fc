// Threads that a task, an initializer or a library leaves running, and that make, keep and drop arrays at any time:
// what tasks are given and what they return stays as it is. Built with ThreadSanitizer, too.
#include "api/pool_fixture.hpp"

#include "support/pending_result.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace shmpool::testing {
namespace {

constexpr std::size_t elements = 6000;  // too many to travel inside a message
constexpr int noise = -1;
using values = array<int>;

/// Makes arrays for ever, and keeps some for a while.
void make_noise() {
  std::vector<values> kept;
  for (std::size_t i = 1;; ++i) {
    auto made = make_array<int>(elements);
    made[i % elements] = noise;
    if (i % 64 == 0) kept.push_back(made);
    if (kept.size() == 4) kept.clear();
  }
}

void leave_threads() {
  for (int i = 0; i != 3; ++i) std::thread(make_noise).detach();
}

int leave_threads_in_a_task() {
  leave_threads();
  return 0;
}

bool is_all(const values& in, int value) {
  return std::all_of(in.begin(), in.end(), [&](int each) { return each == value; });
}

std::vector<values> produce(int count, int first) {
  std::vector<values> result;
  for (int i = 0; i != count; ++i) result.push_back(make_array<int>(elements, fill(first + i)));
  return result;
}

/// How many of the arrays are not what the caller has put into them.
int count_wrong(std::vector<array<const int>> given, int first) {
  int wrong = 0;
  for (std::size_t i = 0; i != given.size(); ++i) {
    const int expected = first + static_cast<int>(i);
    if (!std::all_of(given[i].begin(), given[i].end(), [&](int each) { return each == expected; })) ++wrong;
    auto own = make_array<int>(elements, fill(expected));  // asks the parent, while threads do as well
    if (!is_all(own, expected)) ++wrong;
  }
  return wrong;
}

asio::awaitable<int> count_wrong_results(process_pool& pool, int rounds) {
  int wrong = 0;
  for (int i = 0; i != rounds; ++i) {
    const auto result = co_await pool.submit(produce, 30, 100 * i);
    for (std::size_t k = 0; k != result.size(); ++k) {
      if (!is_all(result[k], 100 * i + static_cast<int>(k))) ++wrong;
    }
  }
  co_return wrong;
}

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int rounds = 60;
#else
constexpr int rounds = 300;
#endif

pool_options one_worker() {
  pool_options result = options();
  result.workers = 1;
  return result;
}

// Between the return of a task and its end, the memory of its result was leased and in nobody's hands: a thread that
// asked for memory got it, and wrote over up to 8 % of the results without an error.
TEST(leftover_threads, results_are_what_the_task_has_returned) {
  asio::io_context io;
  process_pool pool(io, one_worker());
  const int wrong = run(io, [](process_pool& in) -> asio::awaitable<int> {
    co_await in.submit(leave_threads_in_a_task);
    co_return co_await count_wrong_results(in, rounds);
  }(pool));
  EXPECT_EQ(wrong, 0);
}

TEST(leftover_threads, of_an_initializer_do_no_harm_either) {
  pool_options chosen = one_worker();
  chosen.initializer = leave_threads;
  asio::io_context io;
  process_pool pool(io, chosen);
  EXPECT_EQ(run(io, count_wrong_results(pool, rounds)), 0);
}

// While a task's references to segments were still read out of the receive buffer, the answer to a thread that had
// asked for memory was received into that buffer: tasks ran with the arrays of others.
TEST(leftover_threads, arguments_are_what_the_caller_has_sent) {
  asio::io_context io;
  process_pool pool(io, one_worker());
  const int wrong = run(io, [](process_pool& in) -> asio::awaitable<int> {
    co_await in.submit(leave_threads_in_a_task);
    std::vector<array<const int>> given;
    for (int i = 0; i != 40; ++i) given.push_back(in.make_array<int>(elements, fill(i)));
    int sum = 0;
    for (int i = 0; i != rounds; ++i) sum += co_await in.submit(count_wrong, given, 0);
    co_return sum;
  }(pool));
  EXPECT_EQ(wrong, 0);
}

TEST(leftover_threads, many_tasks_at_once_get_and_return_their_own) {
  asio::io_context io;
  process_pool pool(io, options());
  const watchdog guard(std::chrono::seconds(120));
  for (int i = 0; i != 2; ++i) pool.submit(leave_threads_in_a_task, asio::detached);
  int wrong = 0, ended = 0;
  for (int i = 0; i != rounds; ++i) {
    pool.submit(produce, 4, 10 * i, [&, i](std::exception_ptr error, std::vector<values> result) {
      ++ended;
      EXPECT_FALSE(error) << text_of(error);
      if (!error && result.size() != 4) ++wrong;
      for (std::size_t k = 0; k != result.size(); ++k) wrong += is_all(result[k], 10 * i + static_cast<int>(k)) ? 0 : 1;
    });
  }
  io.run();
  EXPECT_EQ(ended, rounds);
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace shmpool::testing
