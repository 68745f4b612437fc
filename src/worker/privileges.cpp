#include "worker/privileges.hpp"

#include "worker/process_status.hpp"

#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

namespace shmpool::worker {

privileges privileges::now() {
  privileges result;
  result.users.resize(3);
  ::getresuid(&result.users[0], &result.users[1], &result.users[2]);
  gid_t real = 0, effective = 0, saved = 0;
  ::getresgid(&real, &effective, &saved);
  const int count = ::getgroups(0, nullptr);
  result.groups.resize(static_cast<std::size_t>(std::max(count, 0)));
  if (count > 0) ::getgroups(count, result.groups.data());
  result.groups.insert(result.groups.begin(), {real, effective, saved});
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3]{};
  if (::syscall(SYS_capget, &header, sets) == 0) {
    for (const auto& each : sets) result.permitted.push_back(each.permitted);
  }
  result.no_new = ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
  return result;
}

bool privileges::grow_by_executing() const {
  if (no_new || std::find(users.begin(), users.end(), 0U) == users.end()) return false;
  const process_status status;
  const auto permitted_now = status.field("CapPrm"), bounding = status.field("CapBnd");
  return !permitted_now || !bounding || *permitted_now != *bounding;
}

}  // namespace shmpool::worker
