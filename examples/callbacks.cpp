// No coroutine in sight: the last argument of submit is any Asio completion token. Here a callback, a future, and a
// task that kills its worker, which costs that task and nothing else.
#include <shmpool.hpp>

#include <asio.hpp>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <future>
#include <string>

static std::string greet(const std::string& name) {
  return "hello, " + name;
}

static int crashes(int) {
  std::abort();
}

int main(int argc, char** argv) {
  shmpool::init(argc, argv);
  asio::io_context io;
  shmpool::process_pool pool{io, shmpool::pool_options{.workers = 2}};

  pool.submit(greet, std::string("callback"), [](std::exception_ptr error, std::string text) {
    if (!error) std::printf("%s\n", text.c_str());
  });

  pool.submit(crashes, 1, [](std::exception_ptr error, int) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const shmpool::worker_lost& lost) {
      std::printf("the worker died of signal %d; this process did not notice\n", lost.signal());
    }
  });

  std::future<std::string> future = pool.submit(greet, std::string("future"), asio::use_future);

  io.run();  // returns when nothing is outstanding: the pool itself does not keep it
  std::printf("%s\n", future.get().c_str());
  pool.stop();
}
