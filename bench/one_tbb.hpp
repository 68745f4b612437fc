// Tasks of oneTBB: a task_group, in which the thread that waits takes part, or one for each thread that submits.
#pragma once

#include "absent.hpp"

#if !defined(BENCH_HAS_TBB)
namespace bench {
using one_tbb = absent;
}  // namespace bench
#else

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_group.h>

#include <barrier>
#include <cstddef>
#include <functional>
#include <thread>
#include <vector>

namespace bench {

/// Thread safety: none.
class one_tbb {
 public:
  /// With several threads that submit, each makes its share of a batch and waits for that.
  one_tbb(unsigned workers, unsigned threads)
      : threads_(oneapi::tbb::global_control::max_allowed_parallelism, workers + threads), turn_(threads + 1) {
    if (threads == 1) return;
    for (unsigned i = 0; i != threads; ++i) submitters_.emplace_back([this, i, threads] { submit_shares(i, threads); });
  }
  one_tbb(const one_tbb&) = delete;
  one_tbb& operator=(const one_tbb&) = delete;
  ~one_tbb() {
    if (submitters_.empty()) return;
    share_ = nullptr;
    turn_.arrive_and_wait();
  }

  template <class Batch>
  void operator()(Batch& batch) {
    const auto share = [&batch](std::size_t first, std::size_t step) {
      oneapi::tbb::task_group tasks;
      for (std::size_t i = first; i < batch.size(); i += step) tasks.run([&batch, i] { batch.run(i); });
      tasks.wait();
    };
    if (submitters_.empty()) return share(0, 1);
    share_ = share;
    turn_.arrive_and_wait();
    turn_.arrive_and_wait();
  }

 private:
  void submit_shares(std::size_t first, std::size_t step) {
    for (turn_.arrive_and_wait(); share_; turn_.arrive_and_wait()) {
      share_(first, step);
      turn_.arrive_and_wait();
    }
  }

  oneapi::tbb::global_control threads_;  // those that wait, too
  std::barrier<> turn_;
  std::function<void(std::size_t, std::size_t)> share_;
  std::vector<std::jthread> submitters_;
};

}  // namespace bench
#endif
