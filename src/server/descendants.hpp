// The processes that tasks have started: programs, forks, and their descendants. Each worker has a session of its own,
// and the fork server adopts all orphans (prctl(PR_SET_CHILD_SUBREAPER)), so that it finds every process.
//
// Caught: all processes in the session of a dead worker. Not caught before the server ends: processes that have made a
// session of their own, as daemons do; the server cannot tell which worker they came from.
//
// Thread safety: none; the server has one thread.
#pragma once

#include <sys/types.h>

#include <functional>
#include <vector>

namespace shmpool::server {

/// The children of this process, dead ones too: from the kernel's list, or by a walk through /proc if the kernel has no
/// such list. Empty without /proc. A child that is started or reaped meanwhile may be missing.
std::vector<pid_t> children_of_this_process();

class descendants {
 public:
  /// Makes this process the parent of its orphaned descendants.
  descendants() noexcept;

  /// A worker is dead and not reaped yet, so its pid is not reused: kills its process group, and has look() kill its
  /// session.
  void end_session(pid_t worker);
  /// Kills the children that belong to such a session; to be called after each reaping, which may make further
  /// processes children of this one. `is_worker` is true for the children to skip.
  void look(const std::function<bool(pid_t)>& is_worker);
  /// Kills all descendants, whatever their session, and waits for them for at most a second.
  static void end_all();

 private:
  std::vector<pid_t> sessions_;  // that may have members
};

}  // namespace shmpool::server
