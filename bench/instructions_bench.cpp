// Runs tasks so that the instructions that they cost the application can be counted; `./run instructions` does that.
//
//   instructions_bench TASKS OUTSTANDING BYTES ARRAY_BYTES
//
// OUTSTANDING coroutines submit TASKS tasks to one worker, each with BYTES of arguments and as many of results, and
// with an array of ARRAY_BYTES that all of them read. Nobody polls with nothing else to do: how often would be chance.
#include <shmpool.hpp>

#include <asio.hpp>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <span>
#include <vector>

namespace {

using bytes = std::vector<std::byte>;

void nothing() {
}
bytes echo(std::span<const std::byte> what) {
  return {what.begin(), what.end()};
}
std::byte first_of(std::span<const std::byte> array) {
  return array[0];
}

struct work {
  shmpool::process_pool& pool;
  std::size_t left;
  bytes message;
  shmpool::array<std::byte> array;

  asio::awaitable<void> submit_all() {
    while (left != 0) {
      --left;
      if (array.size() != 0) co_await pool.submit(first_of, array);
      else if (!message.empty()) co_await pool.submit(echo, message);
      else co_await pool.submit(nothing);
    }
  }
};

}  // namespace

int main(int argc, char** argv) {
  shmpool::init(argc, argv);
  if (argc != 5) {
    std::fprintf(stderr, "usage: %s TASKS OUTSTANDING BYTES ARRAY_BYTES\n", argv[0]);
    return 2;
  }
  const auto number = [&](int i) { return static_cast<std::size_t>(std::strtoull(argv[i], nullptr, 10)); };
  asio::io_context io(1);
  shmpool::pool_options options;
  options.workers = 1;
  options.spin = std::chrono::microseconds(0);
  options.inline_bytes = number(4) != 0 ? 0 : options.inline_bytes;  // an array that is copied is no array
  shmpool::process_pool pool(io, options);
  work all{pool, number(1), bytes(number(3)), {}};
  if (number(4) != 0) all.array = pool.make_array<std::byte>(number(4));
  for (std::size_t i = number(2); i != 0; --i) {
    asio::co_spawn(io, all.submit_all(), [](const std::exception_ptr& error) {
      if (error) std::rethrow_exception(error);
    });
  }
  io.run();
}
