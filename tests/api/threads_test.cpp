// Pools under several threads: any thread submits, any thread runs the context. Built with ThreadSanitizer, too.
#include "api/gate.hpp"
#include "api/pool_fixture.hpp"

#include <gmock/gmock.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
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

array<int> negated(array<const int> x) {
  auto out = make_array<int>(x.size());
  for (std::size_t i = 0; i != x.size(); ++i) out[i] = -x[i];
  return out;
}

/// Calls `body(index)` on `count` threads and waits for them.
void on_threads(int count, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int i = 0; i != count; ++i) threads.emplace_back(body, i);
  for (auto& each : threads) each.join();
}

class threads : public ::testing::Test {
 protected:
  watchdog guard{std::chrono::seconds(120)};
  asio::io_context io;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work;

  void keep_running() { work.emplace(io.get_executor()); }
};

TEST_F(threads, each_of_many_tasks_completes_once) {
  constexpr int submitters = 4, each = 2500;
  process_pool pool(io, options());
  std::vector<std::atomic<int>> completions(submitters * each);
  std::atomic<int> wrong{0};
  keep_running();
  std::thread first([&] { io.run(); }), second([&] { io.run(); });
  on_threads(submitters, [&](int index) {
    for (int i = 0; i != each; ++i) {
      const int id = index * each + i;
      pool.submit(add, id, 1, [&, id](std::exception_ptr error, int sum) {
        if (error || sum != id + 1) ++wrong;
        ++completions[static_cast<std::size_t>(id)];
      });
    }
  });
  work.reset();
  first.join();
  second.join();
  EXPECT_EQ(wrong, 0);
  for (const auto& count : completions) ASSERT_EQ(count, 1);
  EXPECT_EQ(pool.stats().completed, static_cast<std::uint64_t>(submitters * each));
}

TEST_F(threads, a_thread_waits_for_what_it_submits) {
  process_pool pool(io, options());
  keep_running();
  std::thread runner([&] { io.run(); });
  std::atomic<int> wrong{0};
  on_threads(4, [&](int index) {
    for (int i = 0; i != 100; ++i) {
      if (pool.submit(add, index, i, asio::use_future).get() != index + i) ++wrong;
    }
  });
  work.reset();
  runner.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(threads, a_thousand_coroutines_are_outstanding) {
  process_pool pool(io, options());
  int sum = 0;
  for (int i = 0; i != 1000; ++i) {
    asio::co_spawn(
        io,
        [](process_pool& p, int mine, int& total) -> asio::awaitable<void> {
          total += co_await p.submit(twice, mine);
          total -= co_await p.submit(add, mine, mine);
          total += co_await p.submit(add, mine, 0);
        }(pool, i, sum),
        [](std::exception_ptr error) { EXPECT_FALSE(error); });
  }
  io.run();
  EXPECT_EQ(sum, 999 * 1000 / 2);
}

TEST_F(threads, coroutines_on_several_threads_share_a_pool) {
  asio::thread_pool runners(4);
  process_pool pool(runners, options());
  std::atomic<int> sum{0}, ended{0};
  for (int i = 0; i != 200; ++i) {
    asio::co_spawn(
        asio::make_strand(runners),
        [](process_pool& p, int mine, std::atomic<int>& total) -> asio::awaitable<void> {
          for (int round = 0; round != 5; ++round) total += co_await p.submit(twice, mine);
        }(pool, i, sum),
        [&](std::exception_ptr error) {
          EXPECT_FALSE(error);
          ++ended;
        });
  }
  runners.join();
  EXPECT_EQ(ended, 200);
  EXPECT_EQ(sum, 199 * 200 * 5);
}

TEST_F(threads, arrays_and_maps_are_shared_out) {
  process_pool pool(io, options());
  keep_running();
  std::thread first([&] { io.run(); }), second([&] { io.run(); });
  std::atomic<int> wrong{0};
  on_threads(3, [&](int index) {
    for (int i = 0; i != 20; ++i) {
      auto x = pool.make_array<int>(20'000, fill(index + 1));
      const auto y = pool.submit(negated, x, asio::use_future).get();
      if (y.size() != x.size() || y[0] != -index - 1 || y[19'999] != -index - 1) ++wrong;
      const auto out = pool.map(twice, std::vector<int>{index, i, 3}, asio::use_future).get();
      if (out != std::vector<int>{2 * index, 2 * i, 6}) ++wrong;
    }
  });
  work.reset();
  first.join();
  second.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(threads, cancellation_races_with_completion) {
  asio::thread_pool runners(4);
  process_pool pool(runners, options());
  constexpr int count = 500;
  struct one {
    asio::strand<asio::thread_pool::executor_type> strand;
    asio::cancellation_signal signal;
    int calls = 0;
  };
  std::vector<std::unique_ptr<one>> all;
  std::atomic<int> values{0}, aborts{0}, wrong{0};
  for (int i = 0; i != count; ++i) {
    all.push_back(std::make_unique<one>(asio::make_strand(runners)));
    one& mine = *all.back();
    asio::post(mine.strand, [&, i] {
      pool.submit(twice, i,
                  asio::bind_executor(mine.strand, asio::bind_cancellation_slot(
                                                       mine.signal.slot(), [&, i](std::exception_ptr error, int value) {
                                                         ++mine.calls;
                                                         if (error) ++aborts;
                                                         else if (value == 2 * i) ++values;
                                                         else ++wrong;
                                                       })));
    });
    asio::post(mine.strand, [&mine] { mine.signal.emit(asio::cancellation_type::partial); });
  }
  runners.join();
  EXPECT_EQ(values + aborts, count);
  EXPECT_EQ(wrong, 0);
  for (const auto& each : all) EXPECT_EQ(each->calls, 1);
}

TEST_F(threads, shutdown_races_with_submits) {
  asio::thread_pool runners(2);
  process_pool pool(runners, options());
  std::atomic<int> values{0}, refused{0}, wrong{0}, shutdowns{0};
  constexpr int submitters = 3, each = 300;
  on_threads(submitters + 2, [&](int index) {
    if (index >= submitters) {
      while (values + refused < 100) std::this_thread::yield();
      pool.shutdown([&](std::exception_ptr error) {
        EXPECT_FALSE(error);
        ++shutdowns;
      });
      return;
    }
    for (int i = 0; i != each; ++i) {
      pool.submit(add, i, 1, [&](std::exception_ptr error, int) {
        if (!error) {
          ++values;
          return;
        }
        try {
          std::rethrow_exception(error);
        } catch (const std::system_error& why) {
          why.code() == errc::pool_closed ? ++refused : ++wrong;
        }
      });
    }
  });
  runners.join();
  EXPECT_EQ(shutdowns, 2);
  EXPECT_EQ(values + refused, submitters * each);
  EXPECT_EQ(wrong, 0);
}

TEST_F(threads, stop_races_with_submits) {
  asio::thread_pool runners(2);
  process_pool pool(runners, options());
  std::atomic<int> ended{0};
  constexpr int submitters = 3, each = 300;
  on_threads(submitters + 1, [&](int index) {
    if (index == submitters) {
      while (ended < 100) std::this_thread::yield();
      return pool.stop();
    }
    for (int i = 0; i != each; ++i) pool.submit(add, i, 1, [&](std::exception_ptr, int) { ++ended; });
  });
  runners.join();
  EXPECT_EQ(ended, submitters * each);
}

TEST_F(threads, a_pool_is_destroyed_while_others_run_its_context) {
  for (int round = 0; round != 10; ++round) {
    asio::thread_pool runners(3);
    std::optional<process_pool> pool(std::in_place, runners, options());
    std::atomic<int> ended{0};
    for (int i = 0; i != 100; ++i) pool->submit(add, i, 1, [&](std::exception_ptr, int) { ++ended; });
    while (ended < round) std::this_thread::yield();
    pool.reset();
    runners.join();
    EXPECT_EQ(ended, 100);
  }
}

TEST_F(threads, pools_are_made_and_used_on_several_threads) {
  on_threads(3, [&](int index) {
    for (int round = 0; round != 3; ++round) {
      asio::io_context mine;
      process_pool pool(mine, options());
      std::future<int> sum = pool.submit(add, index, 1, asio::use_future);
      mine.run();
      EXPECT_EQ(sum.get(), index + 1);
    }
  });
}

TEST_F(threads, run_returns_on_every_thread_when_the_last_task_has_ended) {
  process_pool pool(io, options());
  for (int round = 0; round != 50; ++round) {
    std::atomic<int> ended{0};
    for (int i = 0; i != 20; ++i) pool.submit(add, i, 1, [&](std::exception_ptr, int) { ++ended; });
    on_threads(3, [&](int) { io.run(); });
    EXPECT_EQ(ended, 20);
    io.restart();
  }
}

}  // namespace
}  // namespace shmpool::testing
