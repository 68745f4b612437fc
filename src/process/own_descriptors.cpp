#include "process/own_descriptors.hpp"

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

namespace shmpool {

namespace {

/// How many numbers are left free for descriptors that the program opens later, in tasks.
constexpr int room = 256;

int soft_limit() noexcept {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  return static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1 << 20));
}

int first_own = 0;  // 0: the server's descriptors cannot be told from the program's
int highest_own = 0;

/// For use where /proc/self/fd cannot be read.
bool is_open(int number) noexcept {
  return ::fcntl(number, F_GETFD) >= 0;
}

int highest_except(int own) noexcept {
  int highest = STDERR_FILENO;
  const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir("/proc/self/fd"), ::closedir);
  if (!open) {
    for (int number = std::min(soft_limit(), 4096) - 1; number > highest; --number) {
      if (number != own && is_open(number)) return number;
    }
    return highest;
  }
  while (const dirent* each = ::readdir(open.get())) {
    const int number = std::atoi(each->d_name);  // 0 for "." and ".."
    if (number != own && number != ::dirfd(open.get())) highest = std::max(highest, number);
  }
  return highest;
}

/// Closes [first, last]; 0 or an errno.
int close_range(unsigned first, unsigned last) noexcept {
  if (first > last || ::syscall(SYS_close_range, first, last, 0) == 0) return 0;
  // A sandbox may refuse the call. Then close one by one, which takes a while if the limit is high.
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return errno;
  // The limit may have been lowered since the server opened its descriptors.
  const auto end = std::max<rlim_t>(std::min<rlim_t>(limit.rlim_cur, 1U << 20), static_cast<rlim_t>(highest_own) + 1);
  for (auto fd = rlim_t{first}; fd <= last && fd < end; ++fd) ::close(static_cast<int>(fd));
  return 0;
}

}  // namespace

unique_fd move_up(unique_fd descriptor) noexcept {
  unique_fd moved(::fcntl(descriptor.get(), F_DUPFD_CLOEXEC, std::min(2 * room, soft_limit() / 2)));
  if (moved) return moved;
  ::fcntl(descriptor.get(), F_SETFD, FD_CLOEXEC);
  return descriptor;
}

unique_fd move_out_of_the_way(unique_fd descriptor) noexcept {
  if (!descriptor || first_own == 0) return descriptor;
  if (descriptor.get() < first_own) descriptor = unique_fd(::fcntl(descriptor.get(), F_DUPFD_CLOEXEC, first_own));
  highest_own = std::max(highest_own, descriptor.get());
  return descriptor;
}

void settle_own_descriptors(unique_fd& own) noexcept {
  const int programs = highest_except(own.get()) + 1;
  const int from = std::max(3, std::min(programs + room, (programs + soft_limit()) / 2));
  if (own.get() < from) {
    unique_fd moved(::fcntl(own.get(), F_DUPFD_CLOEXEC, from));
    if (!moved) return;  // then workers get none of the program's descriptors
    own = std::move(moved);
  }
  first_own = from;
  highest_own = own.get();
}

int close_own_descriptors_except(std::initializer_list<int> keep) noexcept {
  return close_descriptors_except(keep, first_own != 0 ? static_cast<unsigned>(first_own) : 3);
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

}  // namespace shmpool
