#include "worker/own_descriptors.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>

namespace shmpool::worker {

namespace {

/// How many numbers are left for what the program opens later, in tasks.
constexpr int room = 256;

int soft_limit() noexcept {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  return static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1 << 20));
}

int first_own = 0;  // 0: not settled yet
bool all_moved = true;

int highest_except(int own) noexcept {
  int highest = STDERR_FILENO;
  const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir("/proc/self/fd"), ::closedir);
  while (const dirent* each = open ? ::readdir(open.get()) : nullptr) {
    const int number = std::atoi(each->d_name);  // 0 for the names that are none
    if (number != own && number != ::dirfd(open.get())) highest = std::max(highest, number);
  }
  return highest;
}

/// Closes [first, last]; 0 or an errno.
int close_range(unsigned first, unsigned last) noexcept {
  if (first > last || ::syscall(SYS_close_range, first, last, 0) == 0) return 0;
  // A sandbox may not know the call. One by one, then, which takes a while where the limit is high.
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return errno;
  for (auto fd = rlim_t{first}; fd <= last && fd < std::min<rlim_t>(limit.rlim_cur, 1U << 20); ++fd) ::close(static_cast<int>(fd));
  return 0;
}

}  // namespace

unique_fd move_out_of_the_way(unique_fd descriptor) noexcept {
  if (!descriptor) return descriptor;
  const int from = first_own != 0 ? first_own : std::min(2 * room, soft_limit() / 2);
  if (descriptor.get() >= from) return descriptor;
  unique_fd moved(::fcntl(descriptor.get(), F_DUPFD_CLOEXEC, from));
  if (moved) return moved;
  all_moved = false;
  ::fcntl(descriptor.get(), F_SETFD, FD_CLOEXEC);
  return descriptor;
}

void settle_own_descriptors(unique_fd& own) noexcept {
  const int programs = highest_except(own.get()) + 1;
  first_own = std::max(3, std::min(programs + room, (programs + soft_limit()) / 2));
  all_moved = true;
  if (own.get() >= first_own) return;
  own = move_out_of_the_way(std::move(own));
}

int close_own_descriptors_except(std::initializer_list<int> keep) noexcept {
  return close_descriptors_except(keep, all_moved && first_own != 0 ? static_cast<unsigned>(first_own) : 3);
}

int close_descriptors_except(std::initializer_list<int> keep, unsigned first) noexcept {
  std::array<int, 8> sorted{};
  const std::size_t count = std::min(keep.size(), sorted.size());
  std::copy_n(keep.begin(), count, sorted.begin());
  std::sort(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(count));
  for (std::size_t i = 0; i != count; ++i) {
    if (sorted[i] < 0 || static_cast<unsigned>(sorted[i]) < first) continue;
    const auto kept = static_cast<unsigned>(sorted[i]);
    if (kept > first) {
      if (const int error = close_range(first, kept - 1)) return error;
    }
    first = kept + 1;
  }
  return close_range(first, ~0U);
}

}  // namespace shmpool::worker
