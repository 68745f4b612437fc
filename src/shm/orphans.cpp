// A pool is dead if its lock file can be locked: the file is made before the first segment and removed after the last.
// If the file is gone, somebody may have removed it under a live pool, which makes it again at its next call; until
// then a segment counts as used while any process has it open or mapped.
#include "shm/orphans.hpp"

#include "shm/mapping.hpp"
#include "shm/pool_lock.hpp"

#include <shmpool/shm_handle.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace shmpool::shm {
namespace {

struct close_directory {
  void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};

struct listed_name {
  std::string name;
  parsed_name parsed;
};

/// This user's names, read completely before anything is removed; those of one pool stand together.
std::vector<listed_name> list_names() {
  std::vector<listed_name> names;
  const std::unique_ptr<DIR, close_directory> directory{::opendir(shm_directory())};
  if (!directory) return names;
  while (const dirent* entry = ::readdir(directory.get())) {
    if (const auto parsed = parse_name(entry->d_name)) names.push_back({entry->d_name, *parsed});
  }
  std::sort(names.begin(), names.end(),
            [](const auto& a, const auto& b) { return a.parsed.pool_id < b.parsed.pool_id; });
  return names;
}

/// A claim to a file that nobody else has open or mapped, by a lease for writing: the kernel grants one only to the
/// sole opener. Held until it is destroyed; another opener is told to try again meanwhile.
class sole_claim {
 public:
  sole_claim(int directory, const std::string& name) noexcept
      : file_(::openat(directory, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)) {
    if (!file_) return;
    // Another opener would have SIGIO sent here, which ends a process. SIGURG is ignored by default.
    granted_ = ::fcntl(file_.get(), F_SETSIG, SIGURG) == 0 && ::fcntl(file_.get(), F_SETLEASE, F_WRLCK) == 0;
  }
  /// False also if that cannot be determined.
  explicit operator bool() const noexcept { return granted_; }

 private:
  unique_fd file_;
  bool granted_ = false;
};

/// Which segments of a pool are to be removed.
enum class which : std::uint8_t { all, unused };

/// Unlinks the names of a pool that are segments and really this user's files.
void remove_segments(std::span<const listed_name> names, which wanted, reap_result& removed) {
  const unique_fd directory{::open(shm_directory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!directory) return;
  for (const auto& [name, parsed] : names) {
    if (parsed.segment_id == 0) continue;
    struct stat info {};
    if (::fstatat(directory.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (!S_ISREG(info.st_mode) || info.st_uid != ::geteuid()) continue;
    std::optional<sole_claim> claim;
    if (wanted == which::unused && !claim.emplace(directory.get(), name)) continue;
    if (::unlinkat(directory.get(), name.c_str(), 0) != 0) continue;  // another reaper was faster
    ++removed.segments;
    removed.bytes += static_cast<std::uint64_t>(info.st_size);
  }
}

/// Removes one pool's names if it is dead.
void reap_pool(std::span<const listed_name> names, reap_result& removed) {
  const std::string name = lock_name(names.front().parsed.pool_id);
  std::error_code error;
  // By name, not from the listing: a pool that started while the directory was read may show its segments and not its
  // lock.
  const unique_fd lock = open_named(name, true, error);
  if (error && error != std::errc::no_such_file_or_directory) return;
  if (lock) {
    struct stat info {};
    if (::fstat(lock.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_uid != ::geteuid()) return;
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return;            // the pool lives, or another reaper has it
    if (::fstat(lock.get(), &info) != 0 || info.st_nlink == 0) return;  // another reaper is done
  }
  const std::size_t before = removed.segments;
  remove_segments(names, lock ? which::all : which::unused, removed);
  if (lock) unlink_named(name);
  if (lock || removed.segments != before) ++removed.pools;
}

/// Calls `visit` with the names of each pool.
template <class Visit>
void for_each_pool(std::span<const listed_name> names, Visit visit) {
  while (!names.empty()) {
    const std::uint64_t pool = names.front().parsed.pool_id;
    std::size_t count = 1;
    while (count != names.size() && names[count].parsed.pool_id == pool) ++count;
    visit(pool, names.first(count));
    names = names.subspan(count);
  }
}

}  // namespace

std::optional<parsed_name> parse_name(std::string_view name) {
  constexpr std::string_view prefix = "shmpool.";
  if (!name.starts_with(prefix)) return std::nullopt;
  const char* const end = name.data() + name.size();
  unsigned long long uid = 0;
  parsed_name parsed;
  auto next = std::from_chars(name.data() + prefix.size(), end, uid);
  if (next.ec != std::errc{} || next.ptr == end || *next.ptr != '.') return std::nullopt;
  next = std::from_chars(next.ptr + 1, end, parsed.pool_id, 16);
  if (next.ec != std::errc{} || next.ptr == end || *next.ptr != '.') return std::nullopt;
  if (std::from_chars(next.ptr + 1, end, parsed.segment_id).ec != std::errc{}) parsed.segment_id = 0;
  // The name made again from its parts must be the same: that excludes other users, leading zeros, signs, capitals and
  // tails.
  const std::string same =
      parsed.segment_id == 0 ? lock_name(parsed.pool_id) : segment_name(parsed.pool_id, parsed.segment_id);
  if (name != same) return std::nullopt;
  return parsed;
}

std::size_t unlink_pools(std::vector<std::uint64_t> pool_ids) noexcept {
  reap_result removed;
  try {
    std::sort(pool_ids.begin(), pool_ids.end());
    for_each_pool(list_names(), [&](std::uint64_t pool, std::span<const listed_name> names) {
      if (std::binary_search(pool_ids.begin(), pool_ids.end(), pool)) remove_segments(names, which::all, removed);
    });
    for (const std::uint64_t pool : pool_ids) unlink_named(lock_name(pool));
  } catch (const std::bad_alloc&) {
    // The lock files stay then, and the next reaper finds them free.
  }
  return removed.segments;
}

}  // namespace shmpool::shm

namespace shmpool {

reap_result reap_orphans() noexcept {
  reap_result removed;
  try {
    // Listed once: segments that dying workers still make have no lock file then, and the next reaper removes them.
    shm::for_each_pool(shm::list_names(), [&](std::uint64_t pool, std::span<const shm::listed_name> names) {
      if (!shm::is_pool_of_this_process(pool)) shm::reap_pool(names, removed);
    });
  } catch (const std::bad_alloc&) {
    // The next reaper removes the rest.
  }
  return removed;
}

}  // namespace shmpool
