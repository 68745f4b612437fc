// The descriptor of a file that can also be opened by its name, kept in case that somebody removes the name. At most an
// eighth of RLIMIT_NOFILE are kept, because a process has few descriptors.
//
// Thread safety: an owner belongs to one thread at a time; the count that they share is atomic.
#pragma once

#include "process/unique_fd.hpp"

#include <sys/resource.h>

#include <atomic>
#include <cstdint>
#include <utility>

namespace shmpool::shm {

class kept_descriptor {
 public:
  kept_descriptor() noexcept = default;
  kept_descriptor(const kept_descriptor&) = delete;
  kept_descriptor& operator=(const kept_descriptor&) = delete;
  ~kept_descriptor() { let_go(); }

  int get() const noexcept { return fd_.get(); }
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

  /// Keeps `fd` if not too many are kept or if it is `needed`; otherwise closes it.
  void keep(unique_fd fd, bool needed = false) noexcept {
    let_go();
    if (!fd || (!needed && count_.load(std::memory_order_relaxed) >= most())) return;
    count_.fetch_add(1, std::memory_order_relaxed);
    fd_ = std::move(fd);
  }

 private:
  static std::uint64_t most() noexcept {
    rlimit limit{};
    return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur / 8 : 0;
  }
  void let_go() noexcept {
    if (!fd_) return;
    fd_.reset();
    count_.fetch_sub(1, std::memory_order_relaxed);
  }

  static inline constinit std::atomic<std::uint64_t> count_{0};
  unique_fd fd_;
};

}  // namespace shmpool::shm
