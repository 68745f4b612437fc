// What is learnt of tasks that run alike: how long they run, how often they kill, and when they are to be left alone.
#include "sched/kind_table.hpp"

#include <gtest/gtest.h>

#include <chrono>

namespace shmpool::sched {
namespace {

using std::chrono::microseconds;
using std::chrono::seconds;

class kind_table_test : public ::testing::Test {
 protected:
  options settings;
  time_point now{seconds{1000}};
};

TEST_F(kind_table_test, usual_run_is_the_recent_mean_and_nothing_is_known_of_kind_zero) {
  kind_table kinds(settings);
  kinds.know(1);
  EXPECT_EQ(kinds.usual_run(1), kind_table::unknown);
  kinds.ended(1, microseconds{100});
  EXPECT_EQ(kinds.usual_run(1), microseconds{100});
  kinds.ended(1, microseconds{500});
  EXPECT_EQ(kinds.usual_run(1), microseconds{300});
  kinds.ended(0, microseconds{100});
  EXPECT_EQ(kinds.usual_run(0), kind_table::unknown);
}

TEST_F(kind_table_test, a_kind_that_kills_again_and_again_is_not_expected_to_be_short_until_it_has_lived_for_a_while) {
  kind_table kinds(settings);
  kinds.know(1);
  kinds.ended(1, microseconds{100});
  kinds.killed(1, now);
  EXPECT_NE(kinds.usual_run(1), kind_table::unknown) << "once it may have been an accident";
  kinds.killed(1, now);
  kinds.killed(1, now);
  EXPECT_EQ(kinds.usual_run(1), kind_table::unknown);
  for (int i = 0; i != 10; ++i) kinds.ended(1, microseconds{100});
  EXPECT_NE(kinds.usual_run(1), kind_table::unknown);
}

TEST_F(kind_table_test, quarantine_is_off_unless_it_is_asked_for) {
  kind_table kinds(settings);
  kinds.know(1);
  for (int i = 0; i != 1000; ++i) EXPECT_FALSE(kinds.killed(1, now));
  EXPECT_TRUE(kinds.admits(1, now));
}

TEST_F(kind_table_test, a_kind_that_always_kills_is_quarantined_and_one_that_kills_less_than_nine_in_ten_is_not) {
  settings.quarantine_after = 5;
  kind_table kinds(settings);
  kinds.know(2);
  for (int i = 0; i != 4; ++i) EXPECT_FALSE(kinds.killed(1, now));
  EXPECT_TRUE(kinds.admits(1, now));
  EXPECT_TRUE(kinds.killed(1, now));
  EXPECT_FALSE(kinds.admits(1, now));
  EXPECT_EQ(kinds.admits_at(1), now + settings.quarantine_time);
  EXPECT_EQ(kinds.quarantined(), 1U);
  for (int i = 0; i != 1000; ++i) {
    EXPECT_FALSE(kinds.killed(2, now));
    EXPECT_FALSE(kinds.killed(2, now));
    kinds.ended(2, microseconds{1});
  }
}

TEST_F(kind_table_test, one_is_let_through_now_and_then_and_decides) {
  settings.quarantine_after = 1;
  kind_table kinds(settings);
  kinds.know(1);
  ASSERT_TRUE(kinds.killed(1, now));
  kinds.killed(1, now);  // one that ran already
  now += settings.quarantine_time;
  EXPECT_TRUE(kinds.admits(1, now));
  EXPECT_TRUE(kinds.admits(1, now)) << "to ask is not to take one in";
  kinds.taken_in(1, now);
  EXPECT_FALSE(kinds.admits(1, now)) << "one";
  kinds.killed(1, now);
  EXPECT_EQ(kinds.admits_at(1), now + 2 * settings.quarantine_time);
  now += 2 * settings.quarantine_time;
  EXPECT_TRUE(kinds.admits(1, now));
  kinds.taken_in(1, now);
  kinds.ended(1, microseconds{1});
  EXPECT_TRUE(kinds.admits(1, now));
  EXPECT_EQ(kinds.quarantined(), 0U);
}

// Or nobody could ever submit the function again, as the only one that may was cancelled.
TEST_F(kind_table_test, one_that_was_let_through_and_of_which_nothing_is_heard_is_followed_by_another) {
  settings.quarantine_after = 1;
  kind_table kinds(settings);
  kinds.know(1);
  kinds.killed(1, now);
  for (int i = 0; i != 3; ++i) {
    now += settings.quarantine_time;
    EXPECT_TRUE(kinds.admits(1, now));
  }
}

}  // namespace
}  // namespace shmpool::sched
