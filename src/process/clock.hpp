// The library's one clock, and the timers that go by it. A program may be run with a clock that somebody shifts, speeds
// up or stops (libfaketime, for tests of dates): the C library's functions then tell other times than the kernel goes
// by. So a timer is never set to a time, only to what is left until then; and when it has expired, then is now.
//
// Thread safety: all may be used by any thread.
#pragma once

#include <sys/timerfd.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>

namespace shmpool {

/// Never goes backwards; its times are those of std::chrono::steady_clock, and the same in every process, unless that
/// is slower than the kernel's timers.
class monotonic_clock {
 public:
  using duration = std::chrono::steady_clock::duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::steady_clock::time_point;
  static constexpr bool is_steady = true;

  static time_point now() noexcept {
    return std::chrono::steady_clock::now() + duration(ahead_.load(std::memory_order_relaxed));
  }
  /// What a timer has shown: it cannot be earlier than this.
  static void has_reached(time_point then) noexcept {
    if (const time_point told = now(); told < then) ahead_.fetch_add((then - told).count(), std::memory_order_relaxed);
  }

 private:
  static inline constinit std::atomic<rep> ahead_{0};
};

/// Makes a timerfd readable at `due`, once.
inline void set_timer(int timer, monotonic_clock::time_point due) noexcept {
  const auto now = monotonic_clock::now();
  const std::chrono::nanoseconds left =
      due > now ? due - now : std::chrono::nanoseconds(1);  // not a difference to the least time
  itimerspec when{};
  when.it_value.tv_sec = static_cast<time_t>(left.count() / 1'000'000'000);
  when.it_value.tv_nsec = static_cast<long>(left.count() % 1'000'000'000);
  ::timerfd_settime(timer, 0, &when, nullptr);  // its arguments are good
}

/// Takes note that a timer which was set to `due` is readable; false if it is not.
inline bool take_expiry(int timer, monotonic_clock::time_point due) noexcept {
  std::uint64_t expirations = 0;
  if (::read(timer, &expirations, sizeof expirations) <= 0) return false;
  if (due != monotonic_clock::time_point::max())
    monotonic_clock::has_reached(due);  // a time that somebody else saw come
  return true;
}

}  // namespace shmpool
