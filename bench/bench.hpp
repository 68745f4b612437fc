// What the benchmarks share: running a coroutine to its end, and the word that makes a benchmark its group's yardstick.
#pragma once

#include <shmpool.hpp>

#include <asio.hpp>

#include <benchmark/benchmark.h>

#include <exception>
#include <utility>

namespace bench {

/// Benchmarks are named group/what. The one that carries this label is what bench/ratios.awk compares its group with.
inline constexpr const char* yardstick = "yardstick";

/// Runs `work` until nothing is outstanding in `io`; throws what it throws.
inline void run(asio::io_context& io, asio::awaitable<void> work) {
  asio::co_spawn(io, std::move(work), [](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
  });
  io.restart();
  io.run();
}

/// The rest of main() after shmpool::init().
inline int run_benchmarks(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace bench
