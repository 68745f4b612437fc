// What the benchmark programs share: how they are named and run, and the fixture that is kept between the runs of one.
//
// A benchmark is one contestant at one work: work/parameter[/parameter...]/contestant. bench/run.py starts a program
// once for each sample, with the name of the one benchmark that it wants as the filter.
//
// Thread safety: none; for the main thread.
#pragma once

#include <shmpool.hpp>

#include <asio.hpp>

#include <benchmark/benchmark.h>

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace bench {

/// Whether a pool may poll for a moment before it sleeps.
enum class waiting { sleeping, spinning };

/// The options of a pool of so many workers that waits so; a template, so that a version of the library that cannot
/// spin is measured by the same source.
template <class Options = shmpool::pool_options>
Options options(waiting how, unsigned workers = 1) {
  Options result;
  result.workers = workers;
  if constexpr (requires { result.spin = std::chrono::microseconds::zero(); }) {
    if (how == waiting::sleeping) result.spin = std::chrono::microseconds::zero();
  }
  return result;
}

/// Runs `work` until nothing is outstanding in `io`; throws what it throws.
inline void run(asio::io_context& io, asio::awaitable<void> work) {
  asio::co_spawn(io, std::move(work), [](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
  });
  io.restart();
  io.run();
}

namespace detail {
inline std::string kept_for;
inline std::shared_ptr<void> kept;
}  // namespace detail

/// Registers a benchmark that calls fixture->measure(state) on what make() has returned, a std::shared_ptr. Google
/// Benchmark runs a benchmark several times to find how many iterations it takes: the fixture is made once for all of
/// them, so that what is measured is warm, and only one exists at a time.
template <class Make>
benchmark::internal::Benchmark* add(const std::string& name, Make make) {
  return benchmark::RegisterBenchmark(name.c_str(), [name, make](benchmark::State& state) {
    using fixture = typename std::invoke_result_t<const Make&>::element_type;
    try {
      if (detail::kept_for != name) {
        detail::kept.reset();
        detail::kept_for.clear();
        detail::kept = make();
        detail::kept_for = name;
      }
      static_cast<fixture*>(detail::kept.get())->measure(state);
    } catch (const std::exception& error) {
      state.SkipWithError(error.what());
    }
  });
}

/// The same for a fixture that is made from `args`.
template <class Fixture, class... Args>
benchmark::internal::Benchmark* add_fixture(const std::string& name, Args... args) {
  return add(name, [=] { return std::make_shared<Fixture>(args...); });
}

/// The rest of main() after shmpool::init().
inline int run_benchmarks(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  // Google Benchmark adds to the names how they are timed; a filter for exactly one need not know.
  if (std::string filter = benchmark::GetBenchmarkFilter(); filter.ends_with('$')) {
    filter.insert(filter.size() - 1, "(/real_time|/manual_time|/iterations:[0-9]+)*");
    benchmark::SetBenchmarkFilter(filter);
  }
  const bool any = benchmark::RunSpecifiedBenchmarks() != 0;
  detail::kept.reset();
  benchmark::Shutdown();
  return any ? 0 : 1;
}

}  // namespace bench
