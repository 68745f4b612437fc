// The processes that tasks have started: programs, forks, and what those have started. Each worker has a session of its
// own, and the fork server adopts whatever loses its parent (prctl(PR_SET_CHILD_SUBREAPER)), so that nothing gets out
// of sight.
//
// Caught: everything in the session of a dead worker. Not caught before the server ends: what has made a session of its
// own, as daemons do; one cannot tell whose it was.
//
// Thread safety: none; the server has one thread.
#pragma once

#include <sys/types.h>

#include <functional>
#include <vector>

namespace shmpool::server {

/// The children of this process, dead ones too: by the kernel's list, or by a walk through /proc where the kernel has
/// none. Empty without /proc. One that is made or reaped meanwhile may be missing.
std::vector<pid_t> children_of_this_process();

class descendants {
 public:
  /// From here this process is the parent of its descendants that lose theirs.
  descendants() noexcept;

  /// A worker is dead and not reaped yet, so that the number is nobody else's: what it started is to end.
  void end_session(pid_t worker);
  /// Kills the children that belong to such a session; to be called after children were reaped, as the children of
  /// those are this process's from then on. `is_worker` says which children are not to be looked at.
  void look(const std::function<bool(pid_t)>& is_worker);
  /// Kills all there are, whatever session they have made, and waits for them for at most a second.
  static void end_all();

 private:
  std::vector<pid_t> sessions_;  // that may have members
};

}  // namespace shmpool::server
