// How throughput is measured: by the completions, while as many tasks are outstanding as ever.
#pragma once

#include "processes.hpp"

#include <benchmark/benchmark.h>

#include <cstdint>
#include <stdexcept>

namespace bench {

/// Counts completions. One is one iteration, and the first starts the clock, so that neither the beginning nor the end,
/// with fewer tasks outstanding, is measured.
///
/// Thread safety: none; for the thread that runs the completions.
class completions {
 public:
  /// `total` counts on through all runs.
  completions(benchmark::State& state, std::uint64_t& total) : state_(state), total_(total) {}

  /// False when there have been enough. Throws std::runtime_error unless the result was `right`.
  bool count(bool right) {
    ++total_;
    if (!right) throw std::runtime_error("wrong result");
    if (enough_) return false;
    enough_ = !state_.KeepRunning();
    if (enough_) report();
    return !enough_;
  }

 private:
  void report() {
    const auto iterations = static_cast<double>(state_.iterations());
    state_.counters["per_second"] = benchmark::Counter(iterations, benchmark::Counter::kIsRate);
    state_.counters["cpu"] = meter_.so_far().cpu_us / iterations;
  }

  benchmark::State& state_;
  std::uint64_t& total_;
  bool enough_ = false;
  usage_meter meter_;
};

}  // namespace bench
