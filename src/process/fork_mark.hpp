// Tells an object from its copy in a process that the application has forked; the copy is to be inert.
//
// Thread safety: all members may be called from any thread, also in a forked copy of a process with several threads.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>

namespace shmpool {

class fork_mark {
 public:
  /// The mark belongs to the calling process.
  fork_mark() noexcept;

  /// True in a copy of the process that made the mark (fork, or a bare clone system call). Costs two loads; for the
  /// paths that every task takes.
  bool inherited() const noexcept {
    return !(here_ && here_->load(std::memory_order_relaxed) == number_) && is_of_another();
  }
  /// The same, and asks the kernel as well: true also in a child that shares the memory of its parent (vfork). For
  /// actions that would harm the original: kill, unlink, give back.
  bool inherited_for_certain() const noexcept;

 private:
  bool is_of_another() const noexcept;

  const std::atomic<std::uint64_t>* here_;  // has the number of the process that reads it, or 0; null: unknown
  std::uint64_t number_;
  pid_t owner_;
};

}  // namespace shmpool
