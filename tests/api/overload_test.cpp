// More submits than there is room for: they wait their turn or are refused, and memory stays flat.
#include "api/gate.hpp"
#include "api/pool_fixture.hpp"
#include "support/pending_result.hpp"

#include <deque>
#include <numeric>
#include <string>
#include <vector>

namespace shmpool::testing {
namespace {

int twice(int value) {
  return 2 * value;
}

double sum(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

TEST(overload, submits_wait_for_room_and_all_complete_in_order) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 1;
    chosen.max_pending = 3;
    process_pool pool(co_await asio::this_coro::executor, chosen);
    gate held(pool);
    pending_result<int> first;
    pool.submit(stubborn, held.argument(), 1, first.handler());
    co_await entered(held);
    std::deque<pending_result<int>> results(50);
    for (int i = 0; i != 50; ++i) pool.submit(twice, i, results[static_cast<std::size_t>(i)].handler());
    pool_stats now = pool.stats();
    EXPECT_EQ(now.held, 48u);
    EXPECT_EQ(now.queued + now.assigned, 3u);
    held.open();
    for (int i = 0; i != 50; ++i) {
      auto& each = results[static_cast<std::size_t>(i)];
      co_await each.ended();
      EXPECT_TRUE(each.succeeded()) << text_of(each.error());
      if (each.succeeded()) {
        EXPECT_EQ(each.value(), 2 * i);
      }
    }
    now = pool.stats();
    EXPECT_EQ(now.held + now.queued + now.assigned, 0u);
    EXPECT_EQ(now.pending_bytes, 0u);
    EXPECT_EQ(now.submitted, 51u);
  }());
}

TEST(overload, submits_are_refused_where_that_was_chosen_and_the_error_names_the_bound) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 1;
    chosen.max_pending = 2;
    chosen.when_full = shmpool::overload::refuse;
    process_pool pool(co_await asio::this_coro::executor, chosen);
    gate held(pool);
    pending_result<int> first, second, third;
    pool.submit(stubborn, held.argument(), 1, first.handler());
    pool.submit(twice, 1, second.handler());
    pool.submit(twice, 2, third.handler());
    EXPECT_FALSE(third.done()) << "not from inside submit";
    co_await third.ended();
    EXPECT_EQ(code_of(third.error()), errc::queue_full);
    EXPECT_NE(text_of(third.error()).find("max_pending = 2"), std::string::npos) << text_of(third.error());
    held.open();
    co_await first.ended();
    co_await second.ended();
    EXPECT_EQ(second.value(), 2);
    EXPECT_EQ(co_await pool.submit(twice, 4), 8);
  }());
}

TEST(overload, arrays_of_waiting_submits_are_not_copied_before_their_turn) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    constexpr std::size_t bytes = 4 * 1024 * 1024;
    chosen.max_pending_bytes = 2 * bytes;
    chosen.max_shm_bytes = 5 * bytes;  // a tenth of what the submits bring
    chosen.cache_bytes = bytes;
    process_pool pool(co_await asio::this_coro::executor, chosen);
    const std::vector<double> values(bytes / sizeof(double), 1.0);
    std::deque<pending_result<double>> results(50);
    for (auto& each : results) pool.submit(sum, values, each.handler());
    EXPECT_GE(pool.stats().held, 25u);
    for (auto& each : results) {
      co_await each.ended();
      EXPECT_TRUE(each.succeeded()) << text_of(each.error());
      if (each.succeeded()) {
        EXPECT_EQ(each.value(), static_cast<double>(values.size()));
      }
    }
    EXPECT_LE(pool.stats().peak_bytes, 5 * bytes);
  }());
}

TEST(overload, waiting_submit_is_cancelled_at_once) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 1;
    chosen.max_pending = 1;
    process_pool pool(co_await asio::this_coro::executor, chosen);
    gate held(pool);
    pending_result<int> first, second, third;
    pool.submit(stubborn, held.argument(), 1, first.handler());
    co_await entered(held);
    asio::cancellation_signal signal;
    pool.submit(twice, 1, asio::bind_cancellation_slot(signal.slot(), second.handler()));
    pool.submit(twice, 2, third.handler());
    EXPECT_EQ(pool.stats().held, 2u);
    signal.emit(asio::cancellation_type::total);
    co_await second.ended();
    EXPECT_EQ(code_of(second.error()), asio::error::operation_aborted);
    EXPECT_EQ(pool.stats().held, 1u);
    held.open();
    co_await first.ended();
    co_await third.ended();
    EXPECT_EQ(third.value(), 4);
  }());
}

struct cannot_be_packed {
  template <class Archive>
  void save(Archive&) const {
    throw std::runtime_error("not to be packed");
  }
  template <class Archive>
  void load(Archive&) {}
};

int takes(cannot_be_packed) {
  return 1;
}

TEST(overload, submit_that_cannot_be_packed_gives_its_place_back) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.max_pending = 1;
    process_pool pool(co_await asio::this_coro::executor, chosen);
    for (int i = 0; i != 3; ++i) {
      EXPECT_THROW(co_await pool.submit(takes, cannot_be_packed{}), std::runtime_error);
      EXPECT_EQ(co_await pool.submit(twice, i), 2 * i);
    }
  }());
}

TEST(overload, shutdown_lets_waiting_submits_run_and_stop_does_not) {
  for (const bool wait : {true, false}) {
    run([wait]() -> asio::awaitable<void> {
      auto chosen = options();
      chosen.workers = 1;
      chosen.max_pending = 1;
      process_pool pool(co_await asio::this_coro::executor, chosen);
      gate held(pool);
      pending_result<int> first;
      std::deque<pending_result<int>> results(5);
      pool.submit(stubborn, held.argument(), 1, first.handler());
      co_await entered(held);
      for (auto& each : results) pool.submit(twice, 21, each.handler());
      pending_result<void> gone;
      pool.shutdown(gone.handler());
      if (wait) held.open();
      else pool.stop();
      for (auto& each : results) {
        co_await each.ended();
        EXPECT_EQ(each.succeeded(), wait);
        if (!wait) {
          EXPECT_EQ(code_of(each.error()), asio::error::operation_aborted);
        }
      }
      co_await gone.ended();
      EXPECT_TRUE(gone.succeeded());
      co_await first.ended();
      EXPECT_EQ(first.succeeded(), wait);
    }());
  }
}

TEST(overload, destroying_the_pool_completes_waiting_submits) {
  run([]() -> asio::awaitable<void> {
    std::deque<pending_result<int>> results(5);
    {
      auto chosen = options();
      chosen.workers = 1;
      chosen.max_pending = 2;
      process_pool pool(co_await asio::this_coro::executor, chosen);
      for (auto& each : results) pool.submit(twice, 21, each.handler());
    }
    for (auto& each : results) {
      co_await each.ended();
      EXPECT_TRUE(each.done());
    }
  }());
}

TEST(overload, map_keeps_to_the_bound) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.max_pending = 1;
    process_pool pool(co_await asio::this_coro::executor, chosen);
    std::vector<int> numbers(10'000);
    std::iota(numbers.begin(), numbers.end(), 0);
    gate held(pool);
    pending_result<int> first;
    pending_result<std::vector<int>> all;
    pool.submit(stubborn, held.argument(), 1, first.handler());
    co_await entered(held);
    pool.map(twice, numbers, all.handler());
    const pool_stats now = pool.stats();
    EXPECT_GE(now.held, 1u) << "the one place is taken";
    EXPECT_EQ(now.queued + now.assigned, 1u);
    held.open();
    co_await first.ended();
    co_await all.ended();
    EXPECT_EQ(all.value().size(), numbers.size());
    for (std::size_t i = 0; i < all.value().size(); ++i) EXPECT_EQ(all.value()[i], 2 * static_cast<int>(i));
    EXPECT_EQ(pool.stats().held, 0u);
  }());
}

TEST(overload, map_that_fails_gives_its_places_back) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.max_pending = 1;
    process_pool pool(co_await asio::this_coro::executor, chosen);
    std::vector<int> numbers(100, 1);
    const auto broken = [](int) -> int { throw std::invalid_argument("no"); };
    EXPECT_THROW(co_await pool.map(broken, numbers), std::invalid_argument);
    EXPECT_EQ(co_await pool.submit(twice, 5), 10);
    EXPECT_EQ(pool.stats().held, 0u);
  }());
}

/// A hundred times more submits than there is room for, from several threads.
TEST(overload, holds_from_several_threads) {
  asio::io_context io;
  const watchdog guard;
  auto chosen = options();
  chosen.max_pending = 20;
  process_pool pool(io, chosen);
  std::atomic<int> right = 0, ended = 0;
  for (int i = 0; i != 2000; ++i) {
    asio::post(io, [&, i] {
      pool.submit(twice, i, [&, i](std::exception_ptr error, int value) {
        right += !error && value == 2 * i;
        ++ended;
      });
    });
  }
  std::vector<std::thread> threads;
  for (int i = 0; i != 3; ++i) threads.emplace_back([&] { io.run(); });
  for (auto& each : threads) each.join();
  EXPECT_EQ(ended, 2000);
  EXPECT_EQ(right, 2000);
}

}  // namespace
}  // namespace shmpool::testing
