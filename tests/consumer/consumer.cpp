// The smallest program that needs every part of an installed shmpool: headers, library, fork server, shared memory.
#include <shmpool.hpp>

#ifdef SHMPOOL_USE_BOOST_ASIO
#include <boost/asio.hpp>
namespace asio = boost::asio;
#else
#include <asio.hpp>
#endif

#include <cstdio>
#include <exception>

static shmpool::array<double> twice(shmpool::array<const double> x) {
  auto y = shmpool::make_array<double>(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = 2 * x[i];
  return y;
}

static asio::awaitable<void> run() {
  auto executor = co_await asio::this_coro::executor;
  shmpool::process_pool pool{executor, shmpool::pool_options{.workers = 1}};
  auto x = pool.make_array<double>(100'000, 21.0);
  auto y = co_await pool.submit(twice, x);
  std::printf("%g\n", y[99'999]);
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
