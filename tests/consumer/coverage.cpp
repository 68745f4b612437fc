// A program whose tasks are looked at by gcov: how often each line below ran is what `coverage` in check.sh expects.
// Its argument says whether it calls init.
#include <shmpool.hpp>

#ifdef SHMPOOL_USE_BOOST_ASIO
#include <boost/asio.hpp>
namespace asio = boost::asio;
#else
#include <asio.hpp>
#endif

#include <cstdio>
#include <exception>
#include <string_view>

static int task(int x) {
  return x + 1;  // ran 6 times
}

static void finalize() {
  std::fflush(nullptr);  // ran 4 times
}

static void report(int sum) {
  std::printf("%d\n", 2 * sum);  // ran 1 times
}

static asio::awaitable<void> run() {
  int sum = 0;
  {
    // Two workers, one after the other.
    shmpool::process_pool pool{co_await asio::this_coro::executor,
                               {.workers = 1, .max_tasks_per_worker = 3, .finalizer = finalize}};
    for (int i = 0; i != 4; ++i) sum += co_await pool.submit(task, i);
    co_await pool.shutdown();
  }
  {
    // Two that leave at the same time.
    shmpool::process_pool pool{co_await asio::this_coro::executor,
                               {.workers = 2, .min_workers = 2, .finalizer = finalize}};
    for (int i = 4; i != 6; ++i) sum += co_await pool.submit(task, i);
    co_await pool.shutdown();
  }
  report(sum);
}

int main(int argc, char** argv) {
  if (argc < 2 || std::string_view(argv[1]) != "without-init") shmpool::init(argc, argv);
  asio::io_context io;
  asio::co_spawn(io, run(), [](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
  });
  io.run();
}
