// A program that runs only where functions are looked up when they are called. The fork server is this program executed
// again with all of them looked up at its start, which cannot begin here: another one without that takes its place.
#include <shmpool.hpp>

#include <asio.hpp>

#include <cstdio>
#include <exception>

int part_that_works();

int main(int argc, char** argv) {
  shmpool::init(argc, argv);
  asio::io_context io;
  shmpool::process_pool pool(io, shmpool::pool_options{.workers = 1});
  int right = 0;
  const auto handler = [&right](const std::exception_ptr& error, int result) {
    if (!error && result == 2) ++right;
    try {
      if (error) std::rethrow_exception(error);
    } catch (const std::exception& what) {
      std::fprintf(stderr, "%s\n", what.what());
    }
  };
  for (int i = 0; i != 3; ++i) pool.submit(part_that_works, handler);
  io.run();
  return right == 3 ? 0 : 1;
}
