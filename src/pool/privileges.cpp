#include "pool/privileges.hpp"

#include "process/process_status.hpp"

#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <system_error>

namespace shmpool::pool {

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
  result.secure_bits = ::prctl(PR_GET_SECUREBITS);
  const process_status process;
  for (const char* each : {"CapInh", "CapBnd", "CapAmb", "Seccomp", "Seccomp_filters"}) {
    result.status += std::string(process.field(each).value_or("")) + ";";
  }
  for (const char* each : {"/", "/proc/thread-self/ns/mnt", "/proc/thread-self/ns/user", "/proc/thread-self/ns/net",
                           "/proc/thread-self/ns/pid", "/proc/thread-self/ns/ipc"}) {
    struct stat info {};
    if (::stat(each, &info) != 0) continue;
    result.places.push_back(info.st_dev);
    result.places.push_back(info.st_ino);
  }
  return result;
}

bool privileges::within(const privileges& other) const {
  const auto all_in = [](const auto& some, const auto& all) {
    return std::all_of(some.begin(), some.end(),
                       [&](auto each) { return std::find(all.begin(), all.end(), each) != all.end(); });
  };
  if (!all_in(users, other.users) || !all_in(groups, other.groups) || permitted.size() != other.permitted.size())
    return false;
  for (std::size_t i = 0; i != permitted.size(); ++i) {
    if ((permitted[i] & ~other.permitted[i]) != 0) return false;
  }
  return true;
}

/// By executing, root gets the bounding and the inheritable set.
bool privileges::grow_by_executing() const {
  if (no_new || std::find(users.begin(), users.end(), 0U) == users.end()) return false;
  const process_status process;
  const auto set = [&](const char* name) -> std::optional<std::uint64_t> {
    const auto text = process.field(name);
    std::uint64_t bits = 0;
    if (!text || std::from_chars(text->data(), text->data() + text->size(), bits, 16).ec != std::errc{})
      return std::nullopt;
    return bits;
  };
  const auto now_permitted = set("CapPrm"), bounding = set("CapBnd"), inheritable = set("CapInh");
  return !now_permitted || !bounding || !inheritable || ((*bounding | *inheritable) & ~*now_permitted) != 0;
}

}  // namespace shmpool::pool
