// Promises about an application that runs out of memory while it submits: each allocation of a submit fails once.
// Replaces operator new, so this file is a test program of its own.
#include "api/pool_fixture.hpp"

#include "support/failing_new.hpp"
#include "support/pending_result.hpp"

#include <functional>
#include <new>
#include <string>
#include <vector>

namespace {

using namespace shmpool::testing;
using shmpool::array;
using shmpool::errc;
using shmpool::process_pool;
using shmpool::testing::allocation_failed;
using shmpool::testing::allocations_left;
using shmpool::testing::unlimited;

double sum_of(array<const double> a, const std::vector<double>& b, const std::string& c) {
  return a[0] + b[0] + static_cast<double>(c.size());
}

void increment(array<double>& a) {
  a[0] += 1;
}

/// Makes the n-th allocation of `submit` fail, for n = 0, 1, 2 and so on until it makes fewer. After each the loop
/// runs, `submit` must have completed once, and `check` runs.
template <class Submit, class Check>
int fail_each_allocation(asio::io_context& io, Submit submit, Check check) {
  for (int n = 0; n != 2000; ++n) {
    allocation_failed = false;
    int completions = 0;
    std::exception_ptr thrown, error;
    const auto handler = [&](std::exception_ptr failure, auto...) {
      ++completions;
      error = failure;
    };
    allocations_left = n;
    try {
      submit(handler);
    } catch (...) {
      thrown = std::current_exception();
    }
    allocations_left = unlimited;
    if (!allocation_failed) {
      io.run();
      io.restart();
      return n;
    }
    io.run();
    io.restart();
    EXPECT_EQ(completions + (thrown ? 1 : 0), 1) << "allocation " << n;
    for (const auto& each : {thrown, error}) {
      if (!each) continue;
      try {
        std::rethrow_exception(each);
      } catch (const std::bad_alloc&) {
      } catch (const std::exception& other) {
        // A worker that could not be started is an error that names its cause. And there may be no memory to hand the
        // task over, or the reply may come before submit() has returned and find none: that cost the worker once.
        if (code_of(each) == errc::worker_start_failed && std::string(other.what()).starts_with("std::bad_alloc"))
          continue;
        if (code_of(each) == errc::shm_exhausted) continue;
        ADD_FAILURE() << "allocation " << n << ": " << other.what();
      }
    }
    check(n);
    if (::testing::Test::HasFailure()) return n;
  }
  return -1;
}

class failing_allocations : public ::testing::Test {
 protected:
  const watchdog guard;
  asio::io_context io;
};

TEST_F(failing_allocations, of_a_submit_leave_the_pool_as_it_was) {
  process_pool pool(io, options());
  auto values = pool.make_array<double>(20'000, 1.0);
  const std::vector<double> vector(20'000, 2.0);
  const std::string text(300, 'x');
  const auto submit = [&](auto handler) { pool.submit(sum_of, values, vector, text, handler); };
  const int points = fail_each_allocation(io, submit, [&](int n) {
    // All lends are taken off again, and both a reader and a writer get through.
    std::exception_ptr first, second;
    double sum = 0;
    pool.submit(increment, values, [&](std::exception_ptr error) { first = error; });
    io.run();
    io.restart();
    pool.submit(sum_of, values, vector, text, [&](std::exception_ptr error, double result) {
      second = error;
      sum = result;
    });
    io.run();
    io.restart();
    EXPECT_FALSE(first) << "allocation " << n << ": " << text_of(first);
    EXPECT_FALSE(second) << "allocation " << n << ": " << text_of(second);
    EXPECT_EQ(sum, values[0] + 302);
    const auto now = pool.stats();
    EXPECT_EQ(now.queued + now.assigned, 0u) << "allocation " << n;
    EXPECT_EQ(now.workers_killed + now.worker_deaths, 0u) << "allocation " << n;
  });
  EXPECT_GT(points, 5) << "it allocates";
}

TEST_F(failing_allocations, of_the_first_submit_of_a_pool_do_not_break_it) {
  // A pool for each: its tables are empty, and a worker has to be started.
  std::optional<process_pool> pool;
  const auto submit = [&](auto handler) {
    pool->submit(sum_of, pool->make_array<double>(20'000, 1.0), std::vector(1, 2.0), std::string("three"), handler);
  };
  pool.emplace(io, options());
  const int points = fail_each_allocation(io, submit, [&](int n) {
    double sum = 0;
    std::exception_ptr failure;
    pool->submit(sum_of, pool->make_array<double>(20'000, 1.0), std::vector(1, 2.0), std::string("three"),
                 [&](std::exception_ptr error, double result) {
                   failure = error;
                   sum = result;
                 });
    io.run();
    io.restart();
    EXPECT_FALSE(failure) << "allocation " << n << ": " << text_of(failure);
    EXPECT_EQ(sum, 8.0);
    pool.emplace(io, options());
  });
  EXPECT_GT(points, 5) << "it allocates";
}

}  // namespace

int main(int argc, char** argv) {
  shmpool::init(argc, argv);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
