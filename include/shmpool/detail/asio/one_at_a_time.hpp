// Runs work on one thread at a time, without a lock, because the work runs user code: that code may call run() again,
// or wait for another thread that does.
//
// Thread safety: all members may be called from any thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>

namespace shmpool::detail {

/// A call that comes while another thread (or the work itself) is running leaves the work to that run, which repeats
/// it.
class one_at_a_time {
 public:
  /// `work()` has to do all that is due. When no further call has come, rethrows the last exception of work(), if any.
  template <class Work>
  void run(Work work) {
    if (asked_.fetch_add(1, std::memory_order_acq_rel) != 0) return;
    std::exception_ptr thrown;
    for (std::size_t seen = 1;;) {
      try {
        work();
      } catch (...) {
        thrown = std::current_exception();
      }
      if (asked_.compare_exchange_strong(seen, 0, std::memory_order_acq_rel)) break;
    }
    if (thrown) std::rethrow_exception(thrown);
  }

 private:
  std::atomic<std::size_t> asked_{0};
};

}  // namespace shmpool::detail
