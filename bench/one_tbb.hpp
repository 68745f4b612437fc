// Tasks of oneTBB: a task_group, in which the thread that waits takes part.
#pragma once

#include "absent.hpp"

#if !defined(BENCH_HAS_TBB)
namespace bench {
using one_tbb = absent;
}  // namespace bench
#else

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_group.h>

#include <cstddef>

namespace bench {

/// Thread safety: none.
class one_tbb {
 public:
  explicit one_tbb(unsigned workers)
      : threads_(oneapi::tbb::global_control::max_allowed_parallelism, std::size_t{workers} + 1) {}

  template <class Batch>
  void operator()(Batch& batch) {
    for (std::size_t i = 0; i != batch.size(); ++i) tasks_.run([&batch, i] { batch.run(i); });
    tasks_.wait();
  }

 private:
  oneapi::tbb::global_control threads_;  // the one that waits, too
  oneapi::tbb::task_group tasks_;
};

}  // namespace bench
#endif
