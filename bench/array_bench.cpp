// Adds one to 160 MB in another process, in each way that an array can travel, beside the least that the same work
// costs in this process on warm memory.
#include "bench.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace {

constexpr std::size_t count = 20'000'000;

void add_one_to(std::span<const double> x, std::span<double> y) {
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] + 1;
}

shmpool::array<double> add_one(shmpool::array<const double> x) {
  auto y = shmpool::make_array<double>(x.size());
  add_one_to(x, y);
  return y;
}

void add_one_in_place(std::span<double> x) {
  for (double& element : x) element += 1;
}

void count_bytes(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(count * sizeof(double)));
}

// ---- The floors.

void loop(benchmark::State& state) {
  const std::vector<double> x(count, 1.0);
  std::vector<double> y(count);
  for (auto _ : state) {
    add_one_to(x, y);
    benchmark::ClobberMemory();
  }
}

void memcpy_and_loop(benchmark::State& state) {
  const std::vector<double> x(count, 1.0);
  std::vector<double> copy(count), y(count);
  for (auto _ : state) {
    std::memcpy(copy.data(), x.data(), count * sizeof(double));
    benchmark::ClobberMemory();
    add_one_to(copy, y);
    benchmark::ClobberMemory();
  }
}

void loop_in_place(benchmark::State& state) {
  std::vector<double> x(count, 1.0);
  for (auto _ : state) {
    add_one_in_place(x);
    benchmark::ClobberMemory();
  }
}

// ---- The pool. `once` is one submit; its result goes back to the pool within the measured time.

template <class Once>
asio::awaitable<void> repeat(benchmark::State& state, Once once) {
  co_await once();  // cold: starts the worker, makes the memory
  for (auto _ : state) co_await once();
}

template <class MakeOnce>
void with_pool(benchmark::State& state, MakeOnce make_once) {
  asio::io_context io;
  shmpool::process_pool pool(io, shmpool::pool_options{.workers = 1});
  bench::run(io, repeat(state, make_once(pool)));
}

void check(benchmark::State& state, const shmpool::array<double>& y) {
  if (y.size() != count || y[0] != 2 || y[count - 1] != 2) state.SkipWithError("wrong result");
}

void pool_array(benchmark::State& state) {
  with_pool(state, [&state](shmpool::process_pool& pool) {
    return [&state, &pool, x = pool.make_array<double>(count, 1.0)]() mutable -> asio::awaitable<void> {
      check(state, co_await pool.submit(add_one, x));
    };
  });
}

void pool_vector(benchmark::State& state) {
  with_pool(state, [&state](shmpool::process_pool& pool) {
    return [&state, &pool, x = std::vector<double>(count, 1.0)]() mutable -> asio::awaitable<void> {
      check(state, co_await pool.submit(add_one, x));
    };
  });
}

void pool_in_place(benchmark::State& state) {
  with_pool(state, [](shmpool::process_pool& pool) {
    return [&pool, x = pool.make_array<double>(count, 1.0)]() mutable -> asio::awaitable<void> {
      co_await pool.submit(add_one_in_place, x);
    };
  });
}

void add(const char* name, void (*function)(benchmark::State&), bool yardstick) {
  benchmark::RegisterBenchmark(name,
                               [=](benchmark::State& state) {
                                 function(state);
                                 count_bytes(state);
                                 if (yardstick) state.SetLabel(bench::yardstick);
                               })
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
  shmpool::init(argc, argv);
  add("add_one/loop_in_process", loop, true);
  add("add_one/shmpool_array", pool_array, false);
  add("add_one_from_vector/memcpy_and_loop_in_process", memcpy_and_loop, true);
  add("add_one_from_vector/shmpool", pool_vector, false);
  add("add_one_in_place/loop_in_process", loop_in_place, true);
  add("add_one_in_place/shmpool", pool_in_place, false);
  return bench::run_benchmarks(argc, argv);
}
