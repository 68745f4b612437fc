// A pool that polls the rings of its workers between the handlers of the loop: what else may happen meanwhile, and that
// it keeps nobody from being served.
#include "gate.hpp"
#include "pool_fixture.hpp"

#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <csignal>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;

int add(int a, int b) {
  return a + b;
}

int forever() {
  for (;;) ::pause();
}

std::vector<int> many(int count) {
  return std::vector<int>(static_cast<std::size_t>(count), count);
}

/// A pool that polls for as long as anything is outstanding, almost.
shmpool::pool_options eager(unsigned workers = 1) {
  auto chosen = options();
  chosen.workers = workers;
  chosen.spin = 1s;
  return chosen;
}

class polling : public ::testing::Test {
 protected:
  const watchdog guard;
  std::optional<asio::io_context> io{std::in_place};

  /// Leaves a task under way, for which the pool polls.
  template <class Handler>
  void begin(shmpool::process_pool& pool, gate& held, Handler handler) {
    pool.submit(stubborn, held.argument(), 42, std::move(handler));
    while (!held.entered()) {
      io->poll_one();  // poll() would last for as long as the pool polls
      io->restart();
    }
  }
};

// The handler that polls went on for ever, as the engine said for ever that it was to be polled.
TEST_F(polling, ends_with_the_pool) {
  pending_result<int> running;
  {
    shmpool::process_pool pool(*io, eager());
    gate held(pool);
    begin(pool, held, running.handler());
  }
  io->run();
  EXPECT_TRUE(running.done());
}

TEST_F(polling, ends_with_the_pool_that_goes_in_a_handler) {
  auto pool = std::make_unique<shmpool::process_pool>(*io, eager(2));
  int ended = 0;
  for (int i = 0; i != 100; ++i) {
    pool->submit(add, i, 1, [&](std::exception_ptr, int) {
      if (++ended == 10) pool.reset();
    });
  }
  io->run();
  EXPECT_EQ(ended, 100);
}

TEST_F(polling, goes_on_in_a_pool_that_is_moved_in_a_handler) {
  shmpool::process_pool pool(*io, eager(2));
  std::optional<shmpool::process_pool> other;
  int right = 0;
  for (int i = 0; i != 100; ++i) {
    pool.submit(add, i, 1, [&, i](std::exception_ptr, int value) {
      right += value == i + 1;
      if (right == 10) other.emplace(std::move(pool));
    });
  }
  io->run();
  EXPECT_EQ(right, 100);
}

TEST_F(polling, outlasts_a_context_that_stops_between_two_looks) {
  shmpool::process_pool pool(*io, eager());
  int right = 0;
  for (int round = 0; round != 100; ++round) {
    pending_result<int> result;
    pool.submit(add, round, 1, result.handler());
    while (!result.done()) {  // a handler or two each time, of which some look
      asio::post(*io, [&] { io->stop(); });
      io->run();
      io->restart();
    }
    right += result.succeeded() && result.value() == round + 1;
  }
  EXPECT_EQ(right, 100);
}

TEST_F(polling, leaves_nothing_of_a_context_that_is_destroyed_meanwhile) {
  shmpool::process_pool pool(*io, eager());
  const auto witness = std::make_shared<int>(0);
  gate held(pool);
  begin(pool, held, [witness](std::exception_ptr, int) { ++*witness; });
  io.reset();
  EXPECT_EQ(witness.use_count(), 1);
  EXPECT_EQ(*witness, 0);
  EXPECT_TRUE(happens([] { return workers_of(::getpid()).empty(); }));
}

TEST_F(polling, goes_on_after_an_exception_has_left_the_loop) {
  shmpool::process_pool pool(*io, eager(2));
  int ended = 0, thrown = 0;
  for (int i = 0; i != 200; ++i) {
    pool.submit(add, i, 1, [&](std::exception_ptr, int) {
      if (++ended % 7 == 0) throw std::runtime_error("from a handler");
    });
  }
  while (ended != 200) {
    try {
      io->run();
      ASSERT_EQ(ended, 200);
    } catch (const std::runtime_error&) {
      ++thrown;
    }
  }
  EXPECT_EQ(thrown, 200 / 7);
}

TEST_F(polling, by_several_threads_loses_nothing) {
  shmpool::process_pool pool(*io, eager(2));
  std::atomic<int> right{0};
  std::function<void(int)> next = [&](int left) {
    pool.submit(add, left, 1, [&, left](std::exception_ptr, int value) {
      right += value == left + 1;
      if (left != 0) next(left - 1);
    });
  };
  for (int chain = 0; chain != 8; ++chain) next(249);
  std::vector<std::thread> threads;
  for (int i = 0; i != 3; ++i) threads.emplace_back([&] { io->run(); });
  for (std::thread& each : threads) each.join();
  EXPECT_EQ(right, 8 * 250);
}

// The handler that polls went on for ever in the copy, where nobody polls.
TEST_F(polling, stays_with_the_parent_when_the_application_forks) {
  shmpool::process_pool pool(*io, eager());
  gate held(pool);
  pending_result<int> running;
  begin(pool, held, running.handler());
  EXPECT_EQ(in_child([&] {
              const watchdog inner(20s);
              io->notify_fork(asio::execution_context::fork_child);
              while (io->poll_one() != 0) {
              }
              return running.done() ? 1 : 0;
            }),
            0);
  held.open();
  io->restart();
  io->run();
  ASSERT_TRUE(running.succeeded()) << text_of(running.error());
  EXPECT_EQ(running.value(), 42);
}

TEST_F(polling, serves_timers_sockets_signals_and_other_handlers_meanwhile) {
  shmpool::process_pool pool(*io, eager());
  gate held(pool);
  pending_result<int> running;
  begin(pool, held, running.handler());

  asio::steady_timer timer(*io, 1ms);
  asio::signal_set signals(*io, SIGUSR1);
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  asio::local::stream_protocol::socket here(*io, asio::local::stream_protocol(), ends[0]);
  asio::local::stream_protocol::socket there(*io, asio::local::stream_protocol(), ends[1]);
  std::array<char, 1> byte{};
  int served = 0;
  // One after the other, each while the pool polls for a task that ends only behind all of them.
  timer.async_wait([&](const asio::error_code& error) {
    served += !error;
    asio::async_write(there, asio::buffer("x", 1), [](auto...) {});
  });
  asio::async_read(here, asio::buffer(byte), [&](const asio::error_code& error, std::size_t) {
    served += !error;
    ::raise(SIGUSR1);
  });
  signals.async_wait([&](const asio::error_code& error, int) {
    served += !error;
    EXPECT_FALSE(running.done());
    asio::post(*io, [&] {
      ++served;
      held.open();
    });
  });
  io->run();
  EXPECT_EQ(served, 4);
  EXPECT_TRUE(running.succeeded());
}

TEST_F(polling, finds_a_worker_that_dies_while_it_is_polled) {
  shmpool::process_pool pool(*io, eager());
  gate held(pool);
  pending_result<int> running;
  begin(pool, held, running.handler());
  for (const pid_t each : workers_of(::getpid())) ::kill(each, SIGKILL);
  io->run();
  EXPECT_EQ(code_of(running.error()), shmpool::errc::worker_lost) << text_of(running.error());
}

TEST_F(polling, does_not_wait_for_a_worker_that_is_stopped) {
  shmpool::process_pool pool(*io, eager());
  pending_result<int> first, ended;
  pool.submit(add, 1, 1, first.handler());
  io->run();
  io->restart();
  for (const pid_t each : workers_of(::getpid())) ::kill(each, SIGSTOP);
  pool.submit(shmpool::task_options{.timeout = 10s}, add, 40, 2, ended.handler());
  io->run();
  ASSERT_TRUE(ended.succeeded()) << text_of(ended.error());
  EXPECT_EQ(ended.value(), 42);
}

int add_later(int a, int b) {
  ::usleep(20'000);
  return a + b;
}

// With a parent that did not poll, the reply was rung for, and the timer was heard first.
TEST_F(polling, does_not_call_a_task_overdue_that_has_ended_while_the_loop_was_busy) {
  auto chosen = eager();
  chosen.cancel_grace = 0ms;
  for (const auto spin : {chosen.spin, std::chrono::microseconds(0)}) {
    chosen.spin = spin;
    shmpool::process_pool pool(*io, chosen);
    pending_result<int> first, result;
    pool.submit(add, 1, 1, first.handler());
    io->run();
    io->restart();
    pool.submit(shmpool::task_options{.timeout = 100ms}, add_later, 40, 2, result.handler());
    asio::post(*io, [] { std::this_thread::sleep_for(300ms); });  // the handler that keeps the loop beyond the deadline
    io->run();
    io->restart();
    ASSERT_TRUE(result.succeeded()) << text_of(result.error());
    EXPECT_EQ(result.value(), 42);
    EXPECT_EQ(pool.stats().workers_killed, 0u) << "nor its worker";
  }
}

// A small reply behind a large one is left in the ring for a parent that may stop to look while the large one is on its
// way.
TEST_F(polling, finds_small_replies_behind_large_ones) {
  auto chosen = eager();
  for (const auto spin : {0us, 20us, 1'000us}) {
    chosen.spin = spin;
    shmpool::process_pool pool(*io, chosen);
    for (int round = 0; round != 200; ++round) {
      std::deque<pending_result<std::vector<int>>> large(3);
      std::deque<pending_result<int>> small(6);
      for (std::size_t i = 0; i != large.size(); ++i) {
        pool.submit(many, 60'000 + round * 250, large[i].handler());
        for (std::size_t n = 0; n != 2; ++n) pool.submit(add, round, 1, small[2 * i + n].handler());
      }
      io->run();
      io->restart();
      for (const auto& each : large) ASSERT_TRUE(each.succeeded());
      for (const auto& each : small) ASSERT_TRUE(each.succeeded());
    }
    EXPECT_EQ(pool.stats().workers_killed, 0u);
  }
}

void tell_from_threads(int count) {
  std::vector<std::thread> threads;
  for (int i = 0; i != 3; ++i) {
    threads.emplace_back([count] {
      for (int n = 0; n != count; ++n) shmpool::this_task::report_progress(0.5);
    });
  }
  for (std::thread& each : threads) each.join();
}

TEST_F(polling, hears_progress_from_several_threads_before_the_end) {
  shmpool::process_pool pool(*io, eager(2));
  int told = 0, ended = 0;
  for (int i = 0; i != 50; ++i) {
    pool.submit(shmpool::task_options{.on_progress = [&](double) { ++told; }}, tell_from_threads, 100,
                [&](std::exception_ptr error) { ended += !error; });
  }
  io->run();
  EXPECT_EQ(ended, 50);
  EXPECT_GE(told, 50);
}

shmpool::array<int> in_memory(int size) {
  return shmpool::make_array<int>(static_cast<std::size_t>(size), shmpool::fill(size));
}

TEST_F(polling, answers_workers_that_need_memory) {
  shmpool::process_pool pool(*io, eager(2));
  int right = 0;
  for (int i = 0; i != 100; ++i) {
    const int size = 20'000 + 10'000 * (i % 13);
    pool.submit(in_memory, size, [&, size](std::exception_ptr error, const shmpool::array<int>& made) {
      right += !error && made.size() == static_cast<std::size_t>(size) && made[made.size() - 1] == size;
    });
  }
  io->run();
  EXPECT_EQ(right, 100);
}

TEST_F(polling, is_no_reason_for_the_loop_to_stay) {
  shmpool::process_pool pool(*io, eager(2));
  pending_result<int> result;
  pool.submit(add, 1, 1, result.handler());
  io->run();
  EXPECT_TRUE(result.done());
}

TEST_F(polling, ends_when_the_pool_is_stopped) {
  shmpool::process_pool pool(*io, eager(2));
  pending_result<int> result;
  pool.submit(forever, result.handler());
  asio::post(*io, [&] { pool.stop(); });
  io->run();
  EXPECT_TRUE(result.done());
}

}  // namespace
