// Sleeping until a word in shared memory changes, and waking whoever sleeps there. The kernel compares 32 bits, so of
// the 64 of a position it sees the lower half.
//
// Thread safety: functions without state.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdint>

namespace shmpool::futex {

static_assert(std::endian::native == std::endian::little, "the lower half of a word is at its address");
static_assert(sizeof(time_t) == sizeof(long), "the system call takes a time in longs");

/// Sleeps while `word` is `seen`, for at most `most`, and perhaps less. ETIMEDOUT after that time; 0, EAGAIN or EINTR
/// if the word may have changed; another errno if the kernel refuses to let this thread sleep.
inline int wait(const std::atomic<std::uint64_t>& word, std::uint64_t seen, std::chrono::nanoseconds most) noexcept {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(most);
  timespec time{};
  time.tv_sec = static_cast<time_t>(seconds.count());
  time.tv_nsec = static_cast<long>((most - seconds).count());
  const long result = ::syscall(SYS_futex, &word, FUTEX_WAIT, static_cast<std::uint32_t>(seen), &time, nullptr, 0);
  return result == 0 ? 0 : errno;
}

/// Wakes a thread that sleeps at `word`, if there is one. 0, or an errno if the kernel refuses.
inline int wake(const std::atomic<std::uint64_t>& word) noexcept {
  return ::syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0) >= 0 ? 0 : errno;
}

}  // namespace shmpool::futex
