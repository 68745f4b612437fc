// What completion handlers may be and do: move-only, throw, block, submit more, end the pool.
#include "api/gate.hpp"
#include "api/pool_fixture.hpp"

#include <gmock/gmock.h>

#include <atomic>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

namespace shmpool::testing {
namespace {

int add(int a, int b) {
  return a + b;
}

int twice(int x) {
  return 2 * x;
}

class handlers : public ::testing::Test {
 protected:
  watchdog guard;
  asio::io_context io;
  process_pool pool{io, options()};
};

TEST_F(handlers, may_be_move_only) {
  auto token = std::make_unique<int>(39);
  int sum = 0;
  pool.submit(add, 1, 2, [&, owned = std::move(token)](std::exception_ptr, int value) { sum += *owned + value; });
  pool.map(twice, std::vector<int>{1}, [&, owned = std::make_unique<int>(1)](std::exception_ptr, std::vector<int> out) {
    sum += *owned + out.at(0);
  });
  pool.shutdown([&, owned = std::make_unique<int>(100)](std::exception_ptr) { sum += *owned; });
  io.run();
  EXPECT_EQ(sum, 145);
}

TEST_F(handlers, may_be_move_only_when_the_submit_fails_at_once) {
  pool.stop();
  int calls = 0;
  pool.submit(add, 1, 2, [&, owned = std::make_unique<int>(1)](std::exception_ptr error, int) {
    EXPECT_TRUE(error);
    calls += *owned;
  });
  io.run();
  EXPECT_EQ(calls, 1);
}

// A handler is called as an rvalue, from a place of its own: it may destroy what it came from.
struct rvalue_only {
  int* calls;
  void operator()(std::exception_ptr, int) && { ++*calls; }
};

TEST_F(handlers, are_called_as_rvalues) {
  int calls = 0;
  pool.submit(add, 1, 2, rvalue_only{&calls});
  io.run();
  EXPECT_EQ(calls, 1);
}

TEST_F(handlers, that_throw_throw_out_of_run_and_lose_no_other) {
  constexpr int count = 200;
  int calls = 0, thrown = 0;
  for (int i = 0; i != count; ++i) {
    pool.submit(twice, i, [&, i](std::exception_ptr error, int value) {
      EXPECT_FALSE(error);
      EXPECT_EQ(value, 2 * i);
      ++calls;
      if (i % 3 == 0) throw std::runtime_error("of a handler");
    });
  }
  for (;;) {
    try {
      io.run();
      break;
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "of a handler");
      ++thrown;
    }
  }
  EXPECT_EQ(calls, count);
  EXPECT_EQ(thrown, (count + 2) / 3);
}

TEST_F(handlers, of_map_and_shutdown_may_throw_too) {
  int thrown = 0;
  pool.map(twice, std::vector<int>{1, 2},
           [](std::exception_ptr, std::vector<int>) { throw std::runtime_error("map"); });
  pool.shutdown([](std::exception_ptr) { throw std::runtime_error("shutdown"); });
  for (;;) {
    try {
      io.run();
      break;
    } catch (const std::runtime_error&) {
      ++thrown;
    }
  }
  EXPECT_EQ(thrown, 2);
}

TEST_F(handlers, may_submit_more) {
  int depth = 0;
  struct next {
    process_pool& pool;
    int& depth;
    void operator()(std::exception_ptr error, int value) const {
      EXPECT_FALSE(error);
      EXPECT_EQ(value, depth + 1);
      if (++depth != 100) pool.submit(add, depth, 1, *this);
    }
  };
  pool.submit(add, 0, 1, next{pool, depth});
  io.run();
  EXPECT_EQ(depth, 100);
}

TEST_F(handlers, may_destroy_the_pool) {
  std::optional<process_pool> mine;
  mine.emplace(io, options());
  int called = 0, aborted = 0;
  gate held(*mine);
  mine->submit(stubborn, held.argument(), 1, [&](std::exception_ptr error, int) { aborted += error ? 1 : 0; });
  run_until(io, [&] { return held.entered(); });
  mine->submit(add, 1, 2, [&](std::exception_ptr error, int) {
    EXPECT_FALSE(error);
    ++called;
    mine.reset();
  });
  io.run();
  EXPECT_EQ(called, 1);
  EXPECT_EQ(aborted, 1);
}

TEST_F(handlers, may_stop_the_pool) {
  int called = 0;
  gate held(pool);
  pool.submit(stubborn, held.argument(), 1, [&](std::exception_ptr error, int) { called += error ? 10 : 1000; });
  run_until(io, [&] { return held.entered(); });
  pool.submit(add, 1, 2, [&](std::exception_ptr, int) {
    pool.stop();
    EXPECT_EQ(called, 0);
    called += 1;
  });
  io.run();
  EXPECT_EQ(called, 11);
}

TEST_F(handlers, may_block_on_a_later_task_while_another_thread_runs_the_context) {
  std::atomic<int> got{0};
  pool.submit(add, 1, 2, [&](std::exception_ptr, int sum) {
    std::future<int> other = pool.submit(twice, sum, asio::use_future);
    got = other.get();
  });
  std::thread second([&] { io.run(); });
  io.run();
  second.join();
  EXPECT_EQ(got, 6);
}

// Replies that arrive together are found in one turn of the loop. A handler among them that waited for one behind it
// used to wait for ever, because both were in the hands of one thread.
TEST_F(handlers, may_block_on_tasks_whose_completions_came_in_the_same_turn) {
  pool_options one_worker = options();
  one_worker.workers = 1;  // it sends its replies together while more short tasks wait
  process_pool mine(io, one_worker);
  for (int round = 0; round != 100; ++round) {
    constexpr int count = 10;
    std::atomic<int> others{0};
    bool first = true;
    for (int i = 0; i != count; ++i) {
      mine.submit(twice, i, [&, i](std::exception_ptr, int) {
        if (i != 0) {
          ++others;
        } else {
          while (others != count - 1) std::this_thread::yield();
          first = false;
        }
      });
    }
    std::thread second([&] { io.run(); });
    io.run();
    second.join();
    io.restart();
    EXPECT_FALSE(first);
  }
}

TEST_F(handlers, that_are_slow_do_not_hold_up_those_of_other_threads) {
  // Both threads are inside a handler at the same time, which takes two threads that call handlers.
  for (int round = 0; round != 20; ++round) {
    std::atomic<int> inside{0};
    for (int i = 0; i != 2; ++i) {
      pool.submit(twice, i, [&](std::exception_ptr, int) {
        ++inside;
        while (inside != 2) std::this_thread::yield();
      });
    }
    std::thread second([&] { io.run(); });
    io.run();
    second.join();
    io.restart();
    EXPECT_EQ(inside, 2);
  }
}

}  // namespace
}  // namespace shmpool::testing
