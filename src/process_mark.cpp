#include "process_mark.hpp"

#include <pthread.h>
#include <unistd.h>

#include <atomic>

namespace shmpool {

namespace {

/// How many forks lie between the first process and this one.
std::atomic<std::uint64_t> forks{0};

void count_forks() noexcept {
  // A failure (no memory) leaves the process id as the only mark.
  [[maybe_unused]] static const int registered =
      ::pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
}

}  // namespace

process_mark::process_mark() noexcept : owner_(::getpid()) {
  count_forks();
  forks_ = forks.load(std::memory_order_relaxed);
}

bool process_mark::inherited() const noexcept {
  return forks.load(std::memory_order_relaxed) != forks_;
}

bool process_mark::inherited_for_certain() const noexcept {
  return inherited() || ::getpid() != owner_;
}

}  // namespace shmpool
