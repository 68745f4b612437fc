#include "process/fork_mark.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <new>

namespace shmpool {

namespace {

/// The number of this process in its line of ancestors. It lies in memory that the kernel wipes in every copy of the
/// process; a copy that finds it wiped takes the next number.
class process_number {
 public:
  process_number() noexcept {
    void* const memory = ::mmap(nullptr, sizeof(number), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED && ::madvise(memory, sizeof(number), MADV_WIPEONFORK) == 0) {
      wiped_ = new (memory) number(1);
      return;
    }
    if (memory != MAP_FAILED) ::munmap(memory, sizeof(number));
    // Without wiped memory, only the process id reveals a copy that was made by a bare clone system call.
    ::pthread_atfork(nullptr, nullptr, [] { last_.fetch_add(1, std::memory_order_relaxed); });
  }

  std::uint64_t value() const noexcept {
    if (!wiped_) return last_.load(std::memory_order_relaxed);
    const std::uint64_t here = wiped_->load(std::memory_order_relaxed);
    return here != 0 ? here : take_next();
  }

  /// Where value() is, once it is known; null without wiped memory.
  const std::atomic<std::uint64_t>* place() const noexcept { return wiped_; }

 private:
  using number = std::atomic<std::uint64_t>;

  std::uint64_t take_next() const noexcept {
    std::uint64_t none = 0;
    const std::uint64_t next = last_.fetch_add(1, std::memory_order_relaxed) + 1;
    return wiped_->compare_exchange_strong(none, next, std::memory_order_relaxed) ? next : none;
  }

  number* wiped_ = nullptr;
  static inline constinit number last_{1};
};

const process_number& this_process() noexcept {
  static const process_number number;
  return number;
}

/// Made before threads exist: if a thread forked while another one constructed this, the child would wait for ever.
[[maybe_unused]] const process_number& made_early = this_process();

}  // namespace

fork_mark::fork_mark() noexcept : here_(this_process().place()), number_(this_process().value()), owner_(::getpid()) {
}

bool fork_mark::is_of_another() const noexcept {
  return this_process().value() != number_;
}

bool fork_mark::inherited_for_certain() const noexcept {
  return inherited() || ::getpid() != owner_;
}

}  // namespace shmpool
