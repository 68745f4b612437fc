// Where handlers run, and what keeps their contexts running: pools on every kind of executor, associated executors and
// allocators, outstanding work, several pools.
#include "api/gate.hpp"
#include "api/pool_fixture.hpp"

#include <gmock/gmock.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace shmpool::testing {
namespace {

int add(int a, int b) {
  return a + b;
}

class executors : public ::testing::Test {
 protected:
  watchdog guard;
  asio::io_context io;
};

TEST_F(executors, a_pool_is_made_from_a_context_or_from_an_executor) {
  process_pool from_context(io, options());
  process_pool from_executor(io.get_executor(), options());
  basic_process_pool<asio::io_context::executor_type> typed(io, options());
  basic_process_pool<asio::strand<asio::io_context::executor_type>> on_strand(asio::make_strand(io), options());
  EXPECT_EQ(from_context.get_executor(), io.get_executor());
  EXPECT_EQ(typed.get_executor(), io.get_executor());
  int sum = 0;
  const auto handler = [&](std::exception_ptr, int result) { sum += result; };
  from_context.submit(add, 1, 2, handler);
  from_executor.submit(add, 10, 20, handler);
  typed.submit(add, 100, 200, handler);
  on_strand.submit(add, 1000, 2000, handler);
  io.run();
  EXPECT_EQ(sum, 3333);
}

TEST_F(executors, a_pool_of_one_executor_type_becomes_one_of_another) {
  basic_process_pool<asio::io_context::executor_type> typed(io, options());
  using rebound = decltype(typed)::rebind_executor<asio::any_io_executor>::other;
  static_assert(std::is_same_v<rebound, process_pool>);
  rebound pool(std::move(typed));
  std::future<int> sum = pool.submit(add, 40, 2, asio::use_future);
  io.run();
  EXPECT_EQ(sum.get(), 42);
}

TEST_F(executors, a_pool_on_a_thread_pool_needs_no_io_context) {
  asio::thread_pool threads(2);
  process_pool pool(threads, options());
  std::future<int> sum = pool.submit(add, 40, 2, asio::use_future);
  EXPECT_EQ(sum.get(), 42);
  auto awaited = asio::co_spawn(
      threads, [&]() -> asio::awaitable<int> { co_return co_await pool.submit(add, 1, 2); }, asio::use_future);
  EXPECT_EQ(awaited.get(), 3);
  threads.join();  // an idle pool is no work
}

TEST_F(executors, a_pool_on_the_system_executor_works) {
  process_pool pool(asio::system_executor(), options());
  EXPECT_EQ(pool.submit(add, 40, 2, asio::use_future).get(), 42);
}

TEST_F(executors, a_pool_on_a_strand_calls_one_handler_at_a_time) {
  asio::thread_pool threads(4);
  const auto strand = asio::make_strand(threads);
  process_pool pool(strand, options());
  std::atomic<int> inside{0}, wrong{0};
  int calls = 0;  // guarded by the strand alone
  for (int i = 0; i != 500; ++i) {
    pool.submit(add, i, 1, [&, i](std::exception_ptr error, int sum) {
      if (inside.fetch_add(1) != 0 || error || sum != i + 1 || !strand.running_in_this_thread()) ++wrong;
      ++calls;
      inside.fetch_sub(1);
    });
  }
  threads.join();
  EXPECT_EQ(calls, 500);
  EXPECT_EQ(wrong, 0);
}

TEST_F(executors, a_handler_runs_on_its_associated_executor) {
  process_pool pool(io, options());
  asio::io_context other;
  bool called = false;
  pool.submit(add, 1, 2, asio::bind_executor(other, [&](std::exception_ptr, int) { called = true; }));
  io.run();
  EXPECT_FALSE(called);
  EXPECT_EQ(other.run(), 1U);
  EXPECT_TRUE(called);
}

TEST_F(executors, a_failure_at_once_reaches_the_handlers_executor_too) {
  process_pool pool(io, options());
  pool.stop();
  asio::io_context other;
  bool called = false;
  pool.submit(add, 1, 2, asio::bind_executor(other, [&](std::exception_ptr error, int) {
                EXPECT_THROW(std::rethrow_exception(error), std::system_error);
                called = true;
              }));
  EXPECT_FALSE(called);
  other.run();
  EXPECT_TRUE(called);
}

TEST_F(executors, a_task_in_flight_is_work_for_both_contexts) {
  process_pool pool(io, options());
  asio::io_context other;
  gate held(pool);
  pool.submit(stubborn, held.argument(), 1, asio::bind_executor(other, [](std::exception_ptr, int) {}));
  run_until(io, [&] { return held.entered(); });
  io.poll();
  other.poll();
  EXPECT_FALSE(io.stopped());
  EXPECT_FALSE(other.stopped());
  held.open();
  io.run();
  other.run();
}

TEST_F(executors, an_idle_pool_lets_run_return) {
  process_pool pool(io, options());
  EXPECT_EQ(io.run(), 0U);
  io.restart();
  pool.submit(add, 1, 2, asio::detached);
  io.run();
  EXPECT_EQ(pool.stats().completed, 1U);
  EXPECT_GE(pool.stats().workers, 1U);  // it waits for more
  io.restart();
  EXPECT_EQ(io.run(), 0U);
}

TEST_F(executors, no_handler_is_called_from_inside_the_initiating_function) {
  process_pool pool(io, options());
  bool inside = false;
  int calls = 0;
  const auto handler = [&](std::exception_ptr, auto...) {
    EXPECT_FALSE(inside);
    ++calls;
  };
  // From a thread that runs the context, where dispatching would call at once.
  asio::post(io, [&] {
    inside = true;
    for (int i = 0; i != 100; ++i) pool.submit(add, i, 1, handler);
    pool.map([](int) {}, std::vector<int>{1, 2}, handler);
    pool.shutdown(handler);
    pool.submit(add, 1, 2, handler);  // refused
    pool.map([](int) {}, std::vector<int>{1, 2}, handler);
    pool.stop();
    inside = false;
  });
  io.run();
  EXPECT_EQ(calls, 104);
}

// Counts what is allocated through it.
template <class T>
struct counting_allocator {
  using value_type = T;
  std::size_t* live;
  std::size_t* total;
  counting_allocator(std::size_t* now, std::size_t* all) noexcept : live(now), total(all) {}
  template <class U>
  counting_allocator(const counting_allocator<U>& other) noexcept : live(other.live), total(other.total) {}
  T* allocate(std::size_t n) {
    *live += n * sizeof(T);
    *total += n * sizeof(T);
    return std::allocator<T>().allocate(n);
  }
  void deallocate(T* at, std::size_t n) noexcept {
    *live -= n * sizeof(T);
    std::allocator<T>().deallocate(at, n);
  }
  template <class U>
  bool operator==(const counting_allocator<U>& other) const noexcept {
    return live == other.live;
  }
};

TEST_F(executors, memory_from_the_handlers_allocator_is_free_before_it_runs) {
  process_pool pool(io, options());
  std::size_t live = 0, total = 0;
  int calls = 0;
  const auto submit = [&] {
    pool.submit(add, 1, 2, asio::bind_allocator(counting_allocator<char>(&live, &total), [&](std::exception_ptr, int) {
                  EXPECT_EQ(live, 0U);
                  ++calls;
                }));
  };
  submit();
  EXPECT_GT(total, 0U);
  io.run();
  io.restart();
  pool.stop();
  submit();  // refused, which must not leak either
  io.run();
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(live, 0U);
}

TEST_F(executors, memory_from_the_handlers_allocator_is_free_where_it_is_never_called) {
  std::size_t live = 0, total = 0;
  {
    asio::io_context context;
    process_pool pool(context, options());
    gate held(pool);
    pool.submit(stubborn, held.argument(), 1,
                asio::bind_allocator(counting_allocator<char>(&live, &total), [](std::exception_ptr, int) { FAIL(); }));
    EXPECT_GT(live, 0U);
  }
  EXPECT_EQ(live, 0U);
}

TEST_F(executors, a_coroutine_awaits_pools_of_other_contexts) {
  asio::thread_pool threads(1);
  process_pool here(io, options()), there(threads, options());
  run(io, [](process_pool& a, process_pool& b) -> asio::awaitable<void> {
    const auto home = std::this_thread::get_id();
    EXPECT_EQ(co_await b.submit(add, 1, 2), 3);
    EXPECT_EQ(std::this_thread::get_id(), home);
    EXPECT_EQ(co_await a.submit(add, 3, 4), 7);
  }(here, there));
  threads.join();
}

}  // namespace
}  // namespace shmpool::testing
