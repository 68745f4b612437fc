// What this process may do and see: user and group ids, supplementary groups, capabilities, seccomp filters, root
// directory and namespaces. Workers never have more than the process that made their pool had at that time. Rules of
// Landlock and of other security modules are left out, as a process cannot query them.
//
// Thread safety: any thread; now() returns the privileges of the calling thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace shmpool::pool {

struct privileges {
  std::vector<uid_t> users;              ///< real, effective, saved
  std::vector<gid_t> groups;             ///< the same, then the supplementary ones
  std::vector<std::uint32_t> permitted;  ///< capabilities, 32 in each
  bool no_new = false;                   ///< executing a program grants no privileges (PR_SET_NO_NEW_PRIVS)
  int secure_bits = 0;                   ///< what user ids mean for capabilities (PR_SET_SECUREBITS)
  std::string status;                    ///< other capability sets and seccomp, as the kernel writes them
  std::vector<std::uint64_t> places;     ///< the root directory and the namespaces

  static privileges now();
  friend bool operator==(const privileges&, const privileges&) = default;

  /// True if `other` includes all of these ids and capabilities.
  bool within(const privileges& other) const;

  /// True if a process with these privileges gains capabilities by executing an ordinary program: it is root and has
  /// given some up.
  bool grow_by_executing() const;
};

}  // namespace shmpool::pool
