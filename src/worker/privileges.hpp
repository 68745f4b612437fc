// What this process may do: user and group ids, supplementary groups, capabilities. Workers never have more than the process that
// made their pool had at that time.
//
// Thread safety: any thread; they are those of the calling thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace shmpool::worker {

struct privileges {
  std::vector<uid_t> users;              ///< real, effective, saved
  std::vector<gid_t> groups;             ///< the same, then the supplementary ones
  std::vector<std::uint32_t> permitted;  ///< capabilities, 32 in each
  bool no_new = false;                   ///< executing a program gives no more (PR_SET_NO_NEW_PRIVS)

  static privileges now();
  friend bool operator==(const privileges&, const privileges&) = default;

  /// True if a user with these gets capabilities by executing an ordinary program: one who is root and has given some up.
  bool grow_by_executing() const;
};

}  // namespace shmpool::worker
