// Tasks of OpenMP, in which the thread that waits takes part.
#pragma once

#include "absent.hpp"

#if !defined(BENCH_HAS_OPENMP)
namespace bench {
using openmp = absent;
}  // namespace bench
#else

#include <cstddef>

namespace bench {

/// Thread safety: none.
class openmp {
 public:
  openmp(unsigned workers, unsigned) : threads_(static_cast<int>(workers) + 1) {}

  template <class Batch>
  void operator()(Batch& batch) const {
#pragma omp parallel num_threads(threads_)
#pragma omp single
    for (std::size_t i = 0; i != batch.size(); ++i) {
#pragma omp task firstprivate(i) shared(batch)
      batch.run(i);
    }
  }

 private:
  const int threads_;  // the one that makes the tasks, too
};

}  // namespace bench
#endif
