// When starting pauses, for how long, and when the monitor gives up.
#include "sched/crash_monitor.hpp"

#include <gtest/gtest.h>

#include <chrono>

namespace shmpool::sched {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using verdict = crash_monitor::verdict;

class crash_monitor_test : public ::testing::Test {
 protected:
  options settings;
  time_point now{seconds{1000}};
};

TEST_F(crash_monitor_test, carries_on_up_to_the_limit_and_backs_off_beyond_it) {
  settings.crash_limit = 2;
  crash_monitor monitor(settings);
  EXPECT_EQ(monitor.died(now), verdict::carry_on);
  EXPECT_EQ(monitor.died(now), verdict::carry_on);
  EXPECT_LE(monitor.resume_at(), now);
  EXPECT_EQ(monitor.died(now), verdict::back_off);
  EXPECT_EQ(monitor.resume_at(), now + settings.backoff);
  EXPECT_EQ(monitor.deaths(), 3U);
}

TEST_F(crash_monitor_test, deaths_that_are_far_apart_never_back_off) {
  crash_monitor monitor(settings);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(monitor.died(now), verdict::carry_on);
    now += seconds{3};
  }
}

TEST_F(crash_monitor_test, completion_between_deaths_keeps_the_pool) {
  settings.broken_limit = 3;
  settings.crash_limit = 100;
  crash_monitor monitor(settings);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(monitor.died(now), verdict::carry_on);
    EXPECT_EQ(monitor.died(now), verdict::carry_on);
    monitor.completed();
  }
  monitor.died(now);
  monitor.died(now);
  EXPECT_EQ(monitor.died(now), verdict::give_up);
}

TEST_F(crash_monitor_test, deaths_between_completions_do_not_pause) {
  settings.crash_limit = 1;
  crash_monitor monitor(settings);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(monitor.died(now), verdict::carry_on);
    monitor.completed();
  }
  EXPECT_LE(monitor.resume_at(), now);
}

TEST_F(crash_monitor_test, completion_does_not_cut_a_pause_short) {
  settings.crash_limit = 0;
  crash_monitor monitor(settings);
  monitor.died(now);
  monitor.completed();
  EXPECT_EQ(monitor.resume_at(), now + settings.backoff);
}

TEST_F(crash_monitor_test, deaths_leave_the_window_with_time) {
  settings.broken_limit = 3;
  crash_monitor monitor(settings);
  monitor.died(now);
  monitor.died(now);
  now += settings.crash_window + milliseconds{1};
  EXPECT_EQ(monitor.died(now), verdict::carry_on);
  EXPECT_EQ(monitor.died(now), verdict::carry_on);
  EXPECT_EQ(monitor.died(now), verdict::give_up);
}

TEST_F(crash_monitor_test, pauses_do_not_carry_deaths_out_of_the_window) {
  settings.crash_limit = 0;
  settings.backoff = seconds{2};
  settings.broken_limit = 12;  // at one death every 2 s the plain window of 10 s holds 6 at most
  crash_monitor monitor(settings);
  for (int i = 1; i < 12; ++i) {
    ASSERT_EQ(monitor.died(now), verdict::back_off);
    now = monitor.resume_at();
  }
  EXPECT_EQ(monitor.died(now), verdict::give_up);
}

TEST_F(crash_monitor_test, death_during_a_pause_makes_it_longer_and_never_shorter) {
  settings.crash_limit = 0;
  crash_monitor monitor(settings);
  monitor.died(now);
  now += milliseconds{10};
  monitor.died(now);
  EXPECT_EQ(monitor.resume_at(), now + 2 * settings.backoff);
}

TEST_F(crash_monitor_test, broken_limit_of_zero_never_gives_up) {
  settings.broken_limit = 0;
  crash_monitor monitor(settings);
  for (int i = 0; i < 1000; ++i) EXPECT_NE(monitor.died(now), verdict::give_up);
}

TEST_F(crash_monitor_test, failed_starts_pause_for_longer_each_time_until_one_succeeds) {
  crash_monitor monitor(settings);
  monitor.start_failed(now);
  EXPECT_EQ(monitor.resume_at(), now + settings.backoff);
  now = monitor.resume_at();
  monitor.start_failed(now);
  EXPECT_EQ(monitor.resume_at(), now + 2 * settings.backoff);
  monitor.forget_failed_starts();
  EXPECT_LE(monitor.resume_at(), now);
  monitor.start_failed(now);
  EXPECT_EQ(monitor.resume_at(), now + settings.backoff);
}

TEST_F(crash_monitor_test, worker_that_starts_does_not_end_a_pause_after_crashes) {
  settings.crash_limit = 0;
  crash_monitor monitor(settings);
  monitor.died(now);
  monitor.forget_failed_starts();
  EXPECT_EQ(monitor.resume_at(), now + settings.backoff);
}

}  // namespace
}  // namespace shmpool::sched
