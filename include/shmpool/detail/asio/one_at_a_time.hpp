// Work that one thread at a time does and that runs code of the user's, which a lock must not be held for: that code
// may come back, or wait for another thread that does.
//
// Thread safety: all members may be called from any thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>

namespace shmpool::detail {

/// Whoever comes while somebody is at it, another thread or what the work itself calls, leaves it to that one, which
/// does it once more.
class one_at_a_time {
 public:
  /// `work()` has to do all that there is to do. Throws what it threw last, when all is done that was asked for.
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
