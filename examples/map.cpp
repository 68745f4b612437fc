// One function over many inputs: results come back in the order of the inputs, whichever worker was faster.
#include <shmpool.hpp>

#include <asio.hpp>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <numeric>
#include <vector>

// How many steps the Collatz sequence takes from n to 1.
static int collatz_steps(std::uint64_t n) {
  int steps = 0;
  for (; n > 1; ++steps) n = n % 2 == 0 ? n / 2 : 3 * n + 1;
  return steps;
}

static asio::awaitable<void> run() {
  shmpool::process_pool pool{co_await asio::this_coro::executor};

  std::vector<std::uint64_t> numbers(10'000);
  std::iota(numbers.begin(), numbers.end(), std::uint64_t{1});
  const std::vector<int> steps = co_await pool.map(collatz_steps, numbers);

  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (steps[i] != collatz_steps(numbers[i])) throw std::runtime_error("results are not in order");
  }
  std::printf("27 takes %d steps; all %zu results are in order\n", steps[26], steps.size());
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
