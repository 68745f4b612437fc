// What must be left of a pool: nothing. Counted from inside of the process that had it, and from outside of one that is
// dead. Findings are sentences; an empty one means that all is well.
#pragma once

#include "fault/chaos/workload.hpp"

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

namespace shmpool::chaos {

/// Compares pool.stats() of a pool that nothing is in flight in with the processes and names that there are. `prefix`:
/// of its names; empty if it has none.
std::string stats_finding(workload& load, const std::string& prefix);

/// Of the calling process, after its pools are gone.
class self_census {
 public:
  /// `server_died`: a fork server that was killed is a zombie until the next pool is made.
  std::string finding(bool server_died);

 private:
  std::size_t descriptors_ = 0;  ///< after the first pool
};

/// Processes whose environment carries the mark, zombies not included.
std::vector<pid_t> marked_processes(const std::string& mark);

/// Waits until no marked process but `except` is left and, if `names`, none of these names; returns how long it took,
/// or a negative time with a `finding`.
std::chrono::milliseconds wait_for_nothing(const std::string& mark, pid_t except,
                                           const std::vector<std::string>& prefixes, bool names, std::string& finding);

}  // namespace shmpool::chaos
