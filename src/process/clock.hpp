// The library's one clock, and its timers. A program may run with a clock that is shifted, accelerated or stopped
// (libfaketime, for tests of dates): then the C library's functions and the kernel's timers disagree. So a timer is
// never set to a point in time, only to the time left until then; when it expires, the clock has reached that point.
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

/// Never goes backwards; equals std::chrono::steady_clock, and so is the same in every process, unless steady_clock is
/// slower than the kernel's timers.
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
  /// A timer has shown that `then` has come: now() is not earlier from now on.
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
      due > now ? due - now : std::chrono::nanoseconds(1);  // time_point::min() would overflow the difference
  itimerspec when{};
  when.it_value.tv_sec = static_cast<time_t>(left.count() / 1'000'000'000);
  when.it_value.tv_nsec = static_cast<long>(left.count() % 1'000'000'000);
  ::timerfd_settime(timer, 0, &when, nullptr);  // its arguments are good
}

/// Reads a timer that was set to `due`; false if it has not expired.
inline bool take_expiry(int timer, monotonic_clock::time_point due) noexcept {
  std::uint64_t expirations = 0;
  if (::read(timer, &expirations, sizeof expirations) <= 0) return false;
  if (due != monotonic_clock::time_point::max())
    monotonic_clock::has_reached(due);  // the kernel has seen this time come
  return true;
}

}  // namespace shmpool
