// Many tasks at once as the libraries for parallel loops have them: all are made, and then one waits for all.
#pragma once

#include "processes.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bench {

/// The tasks of a batch, each with a place for its result.
///
/// Thread safety: one thread for each task.
template <class Task>
class batch {
 public:
  batch(std::size_t count, const Task& task) : task_(task), results_(count) {}

  std::size_t size() const { return results_.size(); }
  void run(std::size_t n) { results_[n] = task_.run(); }

  /// Whether all results are right; takes them.
  bool take() {
    bool right = true;
    for (auto& each : results_) {
      right = task_.right(each) && right;
      each = {};
    }
    return right;
  }

 private:
  const Task task_;
  std::vector<typename Task::result> results_;
};

/// A contestant. A Runner runs a batch and returns when all of it has run.
template <class Runner, class Task>
class batches {
 public:
  batches(std::size_t outstanding, unsigned workers, unsigned threads, const Task& task)
      : batch_(outstanding, task), runner_(workers, threads) {}

  void measure(benchmark::State& state) {
    const usage_meter meter;
    while (state.KeepRunningBatch(static_cast<benchmark::IterationCount>(batch_.size()))) {
      runner_(batch_);
      total_ += batch_.size();
      if (batch_.take()) continue;
      state.SkipWithError("wrong result");
      return;
    }
    const auto iterations = static_cast<double>(state.iterations());
    state.counters["per_second"] = benchmark::Counter(iterations, benchmark::Counter::kIsRate);
    state.counters["cpu"] = meter.so_far().cpu_us / iterations;
    state.counters["tasks"] = static_cast<double>(total_);
  }

 private:
  batch<Task> batch_;
  Runner runner_;
  std::uint64_t total_ = 0;
};

}  // namespace bench
