// Whether the parent looks at rings: times are arguments, and what is found is what the test says.
#include "pool/ring_poller.hpp"

#include <gtest/gtest.h>

#include <chrono>

namespace shmpool::pool {
namespace {

using namespace std::chrono_literals;

constexpr ring_poller::time_point now{1h};
constexpr auto no_spin = 0ns;
constexpr auto spin = 50us;
constexpr int most_skipped = 1024;  // see spin_budget

/// It looks for a while with nothing else to do, and finds nothing.
void miss(ring_poller& poller) {
  poller.plan(false, spin, now);
  ASSERT_TRUE(poller.polling());
  poller.end();
}

/// True if it begins to spin within so many sleeps.
bool spins_again(ring_poller& poller, int sleeps) {
  for (int i = 0; i != sleeps; ++i) {
    poller.plan(false, spin, now);
    if (poller.end()) return true;
  }
  return false;
}

TEST(ring_poller, looks_once_while_it_is_awake_anyway) {
  ring_poller poller(spin, 4);
  EXPECT_FALSE(poller.polling());
  poller.plan(true, no_spin, now);
  EXPECT_TRUE(poller.polling());
  EXPECT_TRUE(poller.is_over(now)) << "a look that finds nothing is the last";
}

TEST(ring_poller, does_not_look_while_it_may_neither_spin_nor_is_awake) {
  ring_poller poller(spin, 4);
  poller.plan(false, no_spin, now);
  EXPECT_FALSE(poller.polling());
  EXPECT_FALSE(poller.end());
}

TEST(ring_poller, looks_for_as_long_as_it_may_spin) {
  ring_poller poller(spin, 4);
  poller.plan(false, spin, now);
  EXPECT_TRUE(poller.polling());
  EXPECT_TRUE(poller.polling_under_lock());
  EXPECT_FALSE(poller.is_over(now));
  EXPECT_FALSE(poller.is_over(now + spin - 1ns));
  EXPECT_TRUE(poller.is_over(now + spin));
}

TEST(ring_poller, looks_for_longer_with_each_plan) {
  ring_poller poller(spin, 4);
  poller.plan(false, spin, now);
  poller.plan(false, spin, now + 30us);
  EXPECT_FALSE(poller.is_over(now + spin));
  EXPECT_TRUE(poller.is_over(now + 30us + spin));
}

TEST(ring_poller, looks_no_more_when_it_has_ended) {
  ring_poller poller(spin, 4);
  poller.plan(false, spin, now);
  EXPECT_TRUE(poller.end());
  EXPECT_FALSE(poller.polling());
  EXPECT_FALSE(poller.end()) << "nobody looked";
}

TEST(ring_poller, looks_no_more_when_the_pool_is_closed) {
  ring_poller poller(spin, 4);
  poller.plan(true, no_spin, now);
  poller.close();
  EXPECT_FALSE(poller.polling());
}

TEST(ring_poller, does_not_spin_right_after_it_has_found_nothing) {
  ring_poller poller(spin, 4);
  miss(poller);
  poller.plan(false, spin, now);
  EXPECT_FALSE(poller.polling());
}

TEST(ring_poller, looks_without_spinning_if_it_is_awake_after_it_has_found_nothing) {
  ring_poller poller(spin, 4);
  miss(poller);
  poller.plan(true, spin, now);
  EXPECT_TRUE(poller.polling());
  EXPECT_TRUE(poller.is_over(now));
}

TEST(ring_poller, tries_to_spin_again_after_a_while) {
  ring_poller poller(spin, 4);
  miss(poller);
  EXPECT_TRUE(spins_again(poller, most_skipped + 1));
}

TEST(ring_poller, spins_again_at_once_if_it_has_found_something) {
  ring_poller poller(spin, 4);
  for (int i = 0; i != 3; ++i) {
    poller.plan(false, spin, now);
    ASSERT_TRUE(poller.polling());
    poller.found();
    poller.end();
  }
}

TEST(ring_poller, does_not_hold_it_against_spinning_that_a_look_while_awake_finds_nothing) {
  ring_poller poller(spin, 4);
  poller.plan(true, no_spin, now);
  poller.end();
  poller.plan(false, spin, now);
  EXPECT_TRUE(poller.polling());
}

TEST(ring_poller, forgets_what_it_has_found_when_it_begins_anew) {
  ring_poller poller(spin, 4);
  poller.plan(false, spin, now);
  poller.found();
  poller.end();
  miss(poller);
  poller.plan(false, spin, now);
  EXPECT_FALSE(poller.polling());
}

TEST(ring_poller, does_not_spin_where_workers_need_the_cpus) {
  const ring_poller poller(spin, 4);
  EXPECT_EQ(poller.spin_time(0), spin);
  EXPECT_EQ(poller.spin_time(3), spin);
  EXPECT_EQ(poller.spin_time(4), no_spin) << "this thread needs one";
  EXPECT_EQ(poller.spin_time(5), no_spin);
}

}  // namespace
}  // namespace shmpool::pool
