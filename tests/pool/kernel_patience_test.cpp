// How long a pool bears with a kernel that refuses: each test is a story of answers, without a system call. The last
// one holds random stories against a restatement of the rule.
#include "pool/kernel_patience.hpp"

#include "support/environment.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <random>
#include <string>

namespace shmpool::pool {
namespace {

using namespace std::chrono_literals;
using time_point = kernel_patience::time_point;

constexpr time_point start{1h};

kernel_patience refused_at_start() {
  kernel_patience patience;
  patience.refused(start);
  return patience;
}

TEST(kernel_patience, asks_for_no_pause_and_ends_never_if_nothing_is_refused) {
  const kernel_patience patience;
  EXPECT_FALSE(patience.is_refused());
  EXPECT_FALSE(patience.is_given_up());
  EXPECT_EQ(patience.pause(start), 0ms);
  EXPECT_FALSE(patience.is_over(start));
  EXPECT_FALSE(patience.is_over(start + 24h * 365));
}

TEST(kernel_patience, begins_with_a_refusal) {
  const kernel_patience patience = refused_at_start();
  EXPECT_TRUE(patience.is_refused());
  EXPECT_FALSE(patience.is_given_up());
  EXPECT_FALSE(patience.is_over(start));
  EXPECT_EQ(patience.pause(start), 1ms);
}

TEST(kernel_patience, is_over_when_the_kernel_has_refused_up_to_the_limit) {
  const kernel_patience patience = refused_at_start();
  EXPECT_FALSE(patience.is_over(start + kernel_patience::limit - 1ns));
  EXPECT_TRUE(patience.is_over(start + kernel_patience::limit));
  EXPECT_TRUE(patience.is_over(start + kernel_patience::limit + 1ns));
  EXPECT_EQ(kernel_patience::limit, 2s);
}

TEST(kernel_patience, is_counted_from_the_first_refusal) {
  kernel_patience patience = refused_at_start();
  patience.refused(start + 1s);
  patience.refused(start + kernel_patience::limit - 1ns);
  EXPECT_FALSE(patience.is_over(start + kernel_patience::limit - 1ns));
  EXPECT_TRUE(patience.is_over(start + kernel_patience::limit));
}

TEST(kernel_patience, is_as_long_as_ever_after_the_kernel_has_accepted_once) {
  kernel_patience patience = refused_at_start();
  patience.accepted();
  EXPECT_FALSE(patience.is_refused());
  EXPECT_EQ(patience.pause(start + 1s), 0ms);
  EXPECT_FALSE(patience.is_over(start + 1h));
  patience.refused(start + 1s);
  EXPECT_FALSE(patience.is_over(start + kernel_patience::limit));
  EXPECT_TRUE(patience.is_over(start + 1s + kernel_patience::limit));
}

TEST(kernel_patience, is_not_touched_by_what_is_accepted_while_nothing_is_refused) {
  kernel_patience patience;
  patience.accepted();
  patience.accepted();
  EXPECT_FALSE(patience.is_refused());
}

TEST(kernel_patience, may_be_over_and_go_on_until_the_kernel_accepts) {
  kernel_patience patience = refused_at_start();
  const time_point over = start + kernel_patience::limit;
  EXPECT_TRUE(patience.is_over(over));
  patience.refused(over);
  EXPECT_TRUE(patience.is_over(over)) << "asking does not change it";
  EXPECT_FALSE(patience.is_given_up());
  patience.accepted();
  EXPECT_FALSE(patience.is_over(over));
}

TEST(kernel_patience, pauses_for_a_quarter_of_the_time_that_it_has_lasted) {
  const kernel_patience patience = refused_at_start();
  EXPECT_EQ(patience.pause(start + 8ms), 2ms);
  EXPECT_EQ(patience.pause(start + 100ms), 25ms);
  EXPECT_EQ(patience.pause(start + 103ms + 999us), 25ms) << "in whole milliseconds";
  EXPECT_EQ(patience.pause(start + 104ms), 26ms);
}

TEST(kernel_patience, pauses_for_no_less_than_a_millisecond_and_no_more_than_fifty) {
  const kernel_patience patience = refused_at_start();
  EXPECT_EQ(patience.pause(start + 1ns), 1ms);
  EXPECT_EQ(patience.pause(start + 8ms - 1ns), 1ms);
  EXPECT_EQ(patience.pause(start + 200ms - 1ns), 49ms);
  EXPECT_EQ(patience.pause(start + 200ms), 50ms);
  EXPECT_EQ(patience.pause(start + 204ms), 50ms);
  EXPECT_EQ(patience.pause(start + kernel_patience::limit), 50ms);
}

// The machine was suspended, or the program was stopped, in the middle of a refusal.
TEST(kernel_patience, bears_a_time_that_goes_far_ahead) {
  const kernel_patience patience = refused_at_start();
  const time_point late = start + 24h * 365 * 100;
  EXPECT_EQ(patience.pause(late), 50ms);
  EXPECT_TRUE(patience.is_over(late));
  EXPECT_EQ(patience.pause(time_point::max()), 50ms);
  EXPECT_TRUE(patience.is_over(time_point::max()));
}

// The engine reads the clock once per cycle; a refusal in the middle of the cycle is later than that.
TEST(kernel_patience, bears_a_question_of_a_time_before_the_refusal) {
  const kernel_patience patience = refused_at_start();
  EXPECT_EQ(patience.pause(start - 1s), 1ms);
  EXPECT_FALSE(patience.is_over(start - 1s));
  EXPECT_FALSE(patience.is_over(start - 1h));
}

TEST(kernel_patience, that_was_given_up_is_refused_for_good_and_asks_for_nothing) {
  kernel_patience patience = refused_at_start();
  patience.give_up();
  EXPECT_TRUE(patience.is_given_up());
  EXPECT_TRUE(patience.is_refused());
  EXPECT_EQ(patience.pause(start + 1s), 0ms);
  EXPECT_FALSE(patience.is_over(start + kernel_patience::limit)) << "it is reported once";
  EXPECT_FALSE(patience.is_over(time_point::max()));
  patience.give_up();
  EXPECT_TRUE(patience.is_given_up());
}

/// A kernel that accepts and refuses as it likes, and a clock that may leap. The rule: the patience is over when there
/// was no acceptance since a refusal that is as old as the limit.
void run(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  kernel_patience patience;
  time_point now = start;
  constexpr time_point none = time_point::max();
  time_point first_refusal = none;
  bool given_up = false;
  for (int step = 0; step != 40; ++step) {
    now += std::chrono::nanoseconds(1) *
           static_cast<std::int64_t>(random() % 3 == 0 ? random() % 3'000'000'000 : random() % 30'000'000);
    const auto event = random() % 16;
    if (event == 0 || given_up) {
      patience.give_up();
      given_up = true;
    } else if (event < 4) {
      patience.accepted();
      first_refusal = none;
    } else {
      patience.refused(now);
      if (first_refusal == none) first_refusal = now;
    }
    const time_point asked = now + std::chrono::microseconds(random() % 250'000);
    const bool counts = first_refusal != none && !given_up;
    ASSERT_EQ(patience.is_given_up(), given_up);
    ASSERT_EQ(patience.is_refused(), first_refusal != none || given_up);
    ASSERT_EQ(patience.is_over(asked), counts && asked >= first_refusal + 2s);
    const auto pause = patience.pause(asked);
    if (!counts) {
      ASSERT_EQ(pause, 0ms);
    } else if (asked < first_refusal + 4ms) {
      ASSERT_EQ(pause, 1ms);
    } else if (asked >= first_refusal + 200ms) {
      ASSERT_EQ(pause, 50ms);
    } else {
      ASSERT_LE(4 * pause, asked - first_refusal);
      ASSERT_GT(4 * pause, asked - first_refusal - 4ms);
    }
  }
}

TEST(kernel_patience, follows_its_rule_whatever_the_kernel_answers) {
  const std::uint64_t first = testing::from_environment("SHMPOOL_SEED", 1);
  for (std::uint64_t seed = first; seed != first + 20'000 && !::testing::Test::HasFatalFailure(); ++seed) {
    SCOPED_TRACE("SHMPOOL_SEED=" + std::to_string(seed));
    run(seed);
  }
}

}  // namespace
}  // namespace shmpool::pool
