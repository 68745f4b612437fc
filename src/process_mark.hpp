// Tells an object from its copy in a process that the application has forked, where it is to be inert.
//
// Thread safety: all members may be called from any thread, also in a forked copy of a process with several threads.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace shmpool {

class process_mark {
 public:
  /// Belongs to this process from here on.
  process_mark() noexcept;

  /// True in a process that was forked from the one that made it. Costs one load, for the paths that every task takes; misses copies
  /// that were made by a bare clone system call.
  bool inherited() const noexcept;
  /// The same, and asks the kernel as well. For what would harm the original: kill, unlink, give back.
  bool inherited_for_certain() const noexcept;

 private:
  std::uint64_t forks_;
  pid_t owner_;
};

}  // namespace shmpool
