// When starting pauses, for how long, when the monitor gives up, and when it thinks better of it.
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
  /// The next worker is started, in spite of all before, and ends before it is up.
  crash_monitor::loss next() {
    ++latest;
    return of(latest);
  }
  crash_monitor::loss of(worker_id worker) const {
    crash_monitor::loss what;
    what.worker = worker;
    what.latest = latest;
    return what;
  }
  /// As many rounds as break a pool of which nobody is left.
  void break_it(crash_monitor& monitor) {
    for (unsigned i = 1; i < settings.broken_limit; ++i) {
      ASSERT_NE(monitor.lost(next(), now), verdict::give_up);
      now = std::max(now, monitor.resume_at());
    }
    ASSERT_EQ(monitor.lost(next(), now), verdict::give_up);
  }

  options settings;
  time_point now{seconds{1000}};
  worker_id latest = 0;
};

TEST_F(crash_monitor_test, carries_on_up_to_the_limit_and_backs_off_beyond_it) {
  settings.crash_limit = 2;
  crash_monitor monitor(settings);
  EXPECT_EQ(monitor.lost(next(), now), verdict::carry_on);
  EXPECT_EQ(monitor.lost(next(), now), verdict::carry_on);
  EXPECT_LE(monitor.resume_at(), now);
  EXPECT_FALSE(monitor.on_probation());
  EXPECT_EQ(monitor.lost(next(), now), verdict::back_off);
  EXPECT_EQ(monitor.resume_at(), now + settings.backoff);
  EXPECT_TRUE(monitor.on_probation());
  EXPECT_EQ(monitor.health(), pool_health::failing);
}

// One signal to the process group ended 24 workers and counted as 24 deaths, which broke the pool for good.
TEST_F(crash_monitor_test, all_that_die_of_one_cause_are_one_round_however_many_they_are) {
  crash_monitor monitor(settings);
  latest = 64;
  for (worker_id worker = 1; worker <= 64; ++worker) {
    EXPECT_EQ(monitor.lost(of(worker), now), verdict::carry_on);
    ++latest;  // its replacement
  }
  EXPECT_FALSE(monitor.on_probation());
  EXPECT_EQ(monitor.health(), pool_health::healthy);
}

TEST_F(crash_monitor_test, a_worker_that_was_kept_alive_for_long_starts_a_new_count) {
  settings.crash_limit = 0;
  crash_monitor monitor(settings);
  for (int i = 0; i < 100; ++i) {
    auto old = next();
    old.lived = settings.crash_window;
    EXPECT_EQ(monitor.lost(old, now), verdict::carry_on);
  }
  auto young = next();
  young.lived = settings.crash_window - milliseconds{1};
  EXPECT_EQ(monitor.lost(young, now), verdict::back_off);
}

TEST_F(crash_monitor_test, a_new_worker_that_has_had_a_task_ends_the_count_and_the_pause) {
  settings.crash_limit = 1;
  crash_monitor monitor(settings);
  monitor.lost(next(), now);
  monitor.lost(next(), now);
  ASSERT_GT(monitor.resume_at(), now);
  monitor.served(++latest);
  EXPECT_LE(monitor.resume_at(), now);
  EXPECT_EQ(monitor.lost(next(), now), verdict::carry_on);
}

// While some workers are at it, others may be unable to start: that they complete tasks must not make that a busy loop.
TEST_F(crash_monitor_test, old_workers_that_have_tasks_say_nothing_of_new_ones) {
  settings.crash_limit = 1;
  crash_monitor monitor(settings);
  monitor.lost(next(), now);
  monitor.served(1);
  EXPECT_EQ(monitor.lost(next(), now), verdict::back_off);
  monitor.served(1);
  EXPECT_EQ(monitor.resume_at(), now + settings.backoff);
}

TEST_F(crash_monitor_test, pauses_double_up_to_two_seconds) {
  settings.crash_limit = 0;
  settings.broken_limit = 100;
  crash_monitor monitor(settings);
  for (const int expected : {100, 200, 400, 800, 1600, 2000, 2000}) {
    monitor.lost(next(), now);
    ASSERT_EQ(monitor.resume_at(), now + milliseconds{expected});
    now = monitor.resume_at();
  }
}

TEST_F(crash_monitor_test, gives_up_after_so_many_rounds_and_not_while_somebody_is_up) {
  settings.broken_limit = 3;
  crash_monitor monitor(settings);
  for (int i = 0; i < 10; ++i) {
    auto what = next();
    what.others_up = true;
    EXPECT_NE(monitor.lost(what, now), verdict::give_up);
    now = std::max(now, monitor.resume_at());
  }
  EXPECT_FALSE(monitor.broken());
  EXPECT_EQ(monitor.lost(next(), now), verdict::give_up);
  EXPECT_TRUE(monitor.broken());
  EXPECT_EQ(monitor.health(), pool_health::broken);
}

TEST_F(crash_monitor_test, broken_it_refuses_until_the_pause_is_over_and_the_probe_decides) {
  crash_monitor monitor(settings);
  break_it(monitor);
  EXPECT_TRUE(monitor.refuses());
  EXPECT_FALSE(monitor.probe_due(now));
  const time_point first = monitor.resume_at();
  now = first;
  EXPECT_TRUE(monitor.probe_due(now));
  monitor.begin_probe();
  EXPECT_FALSE(monitor.refuses());
  EXPECT_EQ(monitor.lost(next(), now), verdict::give_up);
  EXPECT_TRUE(monitor.refuses());
  EXPECT_GE(monitor.resume_at() - now, settings.backoff);
  now = monitor.resume_at();
  monitor.begin_probe();
  monitor.came_up(++latest);
  EXPECT_FALSE(monitor.broken());
  EXPECT_FALSE(monitor.refuses());
  EXPECT_EQ(monitor.health(), pool_health::healthy);
}

TEST_F(crash_monitor_test, a_worker_that_has_only_come_up_is_yet_to_live) {
  settings.crash_limit = 1;
  crash_monitor monitor(settings);
  break_it(monitor);
  now = monitor.resume_at();
  monitor.begin_probe();
  monitor.came_up(++latest);
  auto again = of(latest);
  again.lived = milliseconds{1};
  EXPECT_EQ(monitor.lost(again, now), verdict::back_off) << "at once it was more than the limit again";
}

TEST_F(crash_monitor_test, a_worker_that_says_itself_that_it_cannot_work_needs_no_further_rounds) {
  crash_monitor monitor(settings);
  auto what = next();
  what.certain = true;
  EXPECT_EQ(monitor.lost(what, now), verdict::give_up);
  EXPECT_EQ(monitor.resume_at(), now + settings.backoff);
}

TEST_F(crash_monitor_test, broken_limit_of_zero_never_gives_up) {
  settings.broken_limit = 0;
  crash_monitor monitor(settings);
  for (int i = 0; i < 1000; ++i) EXPECT_NE(monitor.lost(next(), now), verdict::give_up);
}

TEST_F(crash_monitor_test, failed_starts_pause_for_longer_each_time_until_one_succeeds) {
  crash_monitor monitor(settings);
  monitor.start_failed(now);
  EXPECT_EQ(monitor.resume_at(), now + settings.backoff);
  EXPECT_EQ(monitor.health(), pool_health::failing);
  now = monitor.resume_at();
  monitor.start_failed(now);
  EXPECT_EQ(monitor.resume_at(), now + 2 * settings.backoff);
  monitor.forget_failed_starts();
  EXPECT_LE(monitor.resume_at(), now);
  monitor.start_failed(now);
  EXPECT_EQ(monitor.resume_at(), now + settings.backoff);
}

TEST_F(crash_monitor_test, worker_that_starts_does_not_end_a_pause_after_deaths) {
  settings.crash_limit = 0;
  crash_monitor monitor(settings);
  monitor.lost(next(), now);
  monitor.forget_failed_starts();
  EXPECT_EQ(monitor.resume_at(), now + settings.backoff);
}

}  // namespace
}  // namespace shmpool::sched
