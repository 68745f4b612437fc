// The library's clock and its timers.
#include "process/clock.hpp"

#include "process/unique_fd.hpp"

#include <gtest/gtest.h>

#include <poll.h>

namespace shmpool {
namespace {

using namespace std::chrono_literals;

class timer_test : public ::testing::Test {
 protected:
  static bool expires(int timer, std::chrono::milliseconds within) {
    pollfd watched{.fd = timer, .events = POLLIN, .revents = 0};
    return ::poll(&watched, 1, static_cast<int>(within.count())) == 1;
  }
  const unique_fd timer_{::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)};
};

TEST_F(timer_test, expires_when_it_is_due_and_not_before) {
  const auto due = monotonic_clock::now() + 20ms;
  set_timer(timer_.get(), due);
  EXPECT_FALSE(take_expiry(timer_.get(), due));
  EXPECT_TRUE(expires(timer_.get(), 10s));
  EXPECT_GE(monotonic_clock::now(), due);
  EXPECT_TRUE(take_expiry(timer_.get(), due));
  EXPECT_FALSE(take_expiry(timer_.get(), due)) << "once";
}

TEST_F(timer_test, expires_at_once_where_the_time_has_passed_however_long_ago) {
  for (const auto due : {monotonic_clock::now(), monotonic_clock::now() - 1h, monotonic_clock::time_point{},
                         monotonic_clock::time_point::min()}) {
    set_timer(timer_.get(), due);
    EXPECT_TRUE(expires(timer_.get(), 10s));
    EXPECT_TRUE(take_expiry(timer_.get(), due));
  }
}

TEST_F(timer_test, that_somebody_else_has_seen_come_says_nothing_about_the_clock) {
  set_timer(timer_.get(), monotonic_clock::now());
  EXPECT_TRUE(expires(timer_.get(), 10s));
  const auto before = monotonic_clock::now();
  EXPECT_TRUE(take_expiry(timer_.get(), monotonic_clock::time_point::max()));
  EXPECT_LT(monotonic_clock::now(), before + 1h);
}

// The last one: it moves the clock of this program.
TEST(monotonic_clock_test, is_moved_to_what_a_timer_has_shown_and_never_back) {
  const auto then = monotonic_clock::now() + 1h;
  monotonic_clock::has_reached(then);
  EXPECT_GE(monotonic_clock::now(), then);
  EXPECT_LT(monotonic_clock::now(), then + 1min);
  monotonic_clock::has_reached(then - 2h);
  EXPECT_GE(monotonic_clock::now(), then);
}

}  // namespace
}  // namespace shmpool
