// A task that never ends, stopped for good: what a thread pool cannot do. Whatever emits its cancellation slot, the
// worker that runs the task is asked to stop, and killed and replaced when it does not heed that within cancel_grace.
#include <shmpool.hpp>

#include <asio.hpp>
#if __has_include(<asio/cancel_after.hpp>)
#include <asio/cancel_after.hpp>
#else
#include <asio/experimental/parallel_group.hpp>
#endif

#include <chrono>
#include <cstdio>
#include <exception>
#include <system_error>
#include <tuple>
#include <utility>

using namespace std::chrono_literals;

// Hostile on purpose: it looks at nothing and would run for ever.
static int never_ends(int start) {
  for (volatile bool forever = true; forever;) {
  }
  return start;
}

static int answer(int x) {
  return 2 * x;
}

// Not `pool.submit(never_ends, 0) || timer.async_wait(...)`: that waits for the first success, so that a task which
// fails at once would be heard of when the timer fires.
static asio::awaitable<void> stop_after(shmpool::process_pool& pool, std::chrono::milliseconds time) {
#if __has_include(<asio/cancel_after.hpp>)
  co_await pool.submit(never_ends, 0, asio::cancel_after(time, asio::use_awaitable));
#else
  asio::steady_timer timer{pool.get_executor(), time};
  const auto task = [&](auto token) { return pool.submit(never_ends, 0, std::move(token)); };
  const auto wait = [&](auto token) { return timer.async_wait(std::move(token)); };
  // Whichever ends first, with whatever, the other is cancelled; then both have ended.
  auto group = asio::experimental::make_parallel_group(task, wait);
  const auto ended = co_await group.async_wait(asio::experimental::wait_for_one(), asio::use_awaitable);
  if (const std::exception_ptr& error = std::get<1>(ended)) std::rethrow_exception(error);
#endif
}

static asio::awaitable<void> run() {
  auto executor = co_await asio::this_coro::executor;
  shmpool::process_pool pool{executor, shmpool::pool_options{.workers = 1, .cancel_grace = 50ms}};

  const auto begin = std::chrono::steady_clock::now();
  try {
    co_await stop_after(pool, 200ms);
    std::printf("the task ended\n");
  } catch (const std::system_error& error) {
    const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - begin;
    std::printf("after %.0f ms: %s\n", elapsed.count(), error.code().message().c_str());
  }

  // The same by the pool's own clock, with an error of its own: `deadline` counts from the submit, so that it also ends
  // a task that waits, and `timeout` from the start of the run. Either error can come `cancel_grace` later.
  for (const auto& options :
       {shmpool::task_options{.deadline = 100ms, .cancel_grace = 10ms}, shmpool::task_options{.timeout = 100ms}}) {
    try {
      co_await pool.submit(options, never_ends, 0);
    } catch (const std::system_error& error) {
      std::printf("with a limit: %s\n", error.code().message().c_str());
    }
  }

  // The one worker was replaced each time, and the pool works on.
  std::printf("answer: %d\n", co_await pool.submit(answer, 21));
  co_await pool.shutdown();
}

int main(int argc, char** argv) {
  shmpool::init(argc, argv);
  asio::io_context io;
  asio::co_spawn(io, run(), [](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
  });
  io.run();
}
