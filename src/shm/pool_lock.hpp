// The lock file that tells every reaper on the machine that a pool lives, and this process's list of its pools, which a
// forked copy of the process uses to let go of them.
//
// Thread safety: free functions may be called from any thread. A pool_lock belongs to one owner, who synchronises.
#pragma once

#include "shm/mapping.hpp"

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>

namespace shmpool::shm {

/// "shmpool.<uid>.<pool id as 16 hex digits>.lock", without a slash.
std::string lock_name(std::uint64_t pool_id);

/// A pool's random id and, where names are used, its locked lock file. The lock dies with the process or with this
/// object; a process that the application forks does not keep it.
class pool_lock {
 public:
  /// With a lock file; if that cannot be made, null and an `error`. Throws std::system_error if the kernel has no
  /// random numbers.
  static std::unique_ptr<pool_lock> acquire(std::error_code& error);
  /// Only an id: for pools that use no names.
  static std::unique_ptr<pool_lock> without_file();

  /// drop_file(); but a forked copy leaves the file alone.
  ~pool_lock();
  pool_lock(const pool_lock&) = delete;
  pool_lock& operator=(const pool_lock&) = delete;

  std::uint64_t pool_id() const noexcept { return pool_id_; }
  /// Makes the lock file again if somebody has removed it, so that no reaper takes the pool for dead. If that fails,
  /// the next call tries again.
  void restore() noexcept;
  /// Unlinks the lock file and lets it go, when the pool has no name left. Idempotent.
  void drop_file() noexcept;
  /// True in a process that was forked from the one that made this object: the child must free nothing in it. Takes no
  /// lock, since another thread may have held any lock at the fork.
  bool inherited() const noexcept;

 private:
  friend class pool_registry;
  pool_lock(std::uint64_t pool_id, unique_fd fd) noexcept;

  std::uint64_t pool_id_;
  unique_fd fd_;
  pid_t owner_;
  std::atomic<bool> inherited_{false};  // the process id alone would not tell between two PID namespaces
  pool_lock* next_ = nullptr;
  pool_lock** link_ = nullptr;  // what points here; null when not in the list
};

/// True if a pool of this very process has this id.
bool is_pool_of_this_process(std::uint64_t pool_id) noexcept;

}  // namespace shmpool::shm
