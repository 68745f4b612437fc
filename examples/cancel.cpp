// A task that never ends, stopped for good: what a thread pool cannot do. `submit || timer` cancels the loser; the
// worker that runs the task is asked to stop, and killed and replaced when it does not heed that within cancel_grace.
#include <shmpool.hpp>

#include <asio.hpp>
#include <asio/experimental/awaitable_operators.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <variant>

using namespace asio::experimental::awaitable_operators;
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

static asio::awaitable<void> run() {
  auto executor = co_await asio::this_coro::executor;
  shmpool::process_pool pool{executor, shmpool::pool_options{.workers = 1, .cancel_grace = 50ms}};

  asio::steady_timer timer{executor, 200ms};
  const auto begin = std::chrono::steady_clock::now();
  const auto winner = co_await (pool.submit(never_ends, 0) || timer.async_wait(asio::use_awaitable));
  const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - begin;
  std::printf("%s after %.0f ms\n", winner.index() == 1 ? "the timer won; the task was stopped" : "the task ended",
              elapsed.count());

  // The same as a deadline of the task itself, which has its own error.
  try {
    co_await pool.submit(shmpool::task_options{.timeout = 100ms}, never_ends, 0);
  } catch (const std::system_error& error) {
    std::printf("with a timeout: %s\n", error.code().message().c_str());
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
