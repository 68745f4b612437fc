// When a worker's transfers are tried again, and when the worker counts as out of reach.
#include "pool/transfer_retries.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>

namespace shmpool::pool {
namespace {

using namespace std::chrono_literals;
using time_point = transfer_retries::time_point;

constexpr time_point start{1h}, never = time_point::max();
constexpr auto limit = kernel_patience::limit;

TEST(transfer_retries, have_nothing_to_do_if_nothing_fails) {
  transfer_retries retries;
  EXPECT_FALSE(retries.is_waiting());
  EXPECT_EQ(retries.due(), never);
  EXPECT_FALSE(retries.is_due(never));
  EXPECT_FALSE(retries.is_over(never));
}

TEST(transfer_retries, are_due_once_after_the_pause) {
  transfer_retries retries;
  retries.failed("send", ENOMEM, start);
  EXPECT_TRUE(retries.is_waiting());
  EXPECT_EQ(retries.due(), start + 2ms);
  EXPECT_FALSE(retries.is_due(start + 2ms - 1ns));
  EXPECT_TRUE(retries.is_due(start + 2ms));
  EXPECT_FALSE(retries.is_due(start + 2ms));
  EXPECT_FALSE(retries.is_waiting());
}

TEST(transfer_retries, are_put_off_by_each_further_failure) {
  transfer_retries retries;
  retries.failed("send", ENOMEM, start);
  retries.failed("recv", ENOMEM, start + 1ms);
  EXPECT_EQ(retries.due(), start + 3ms);
}

TEST(transfer_retries, are_over_when_they_have_failed_again_and_again_for_two_seconds) {
  transfer_retries retries;
  time_point now = start;
  for (; now < start + limit; now += transfer_retries::calm) {
    retries.failed("send", ENOMEM, now);
    EXPECT_FALSE(retries.is_over(now));
  }
  retries.failed("send", ENOMEM, start + limit - 1ns);
  EXPECT_FALSE(retries.is_over(start + limit - 1ns));
  retries.failed("send", ENOMEM, start + limit);
  EXPECT_TRUE(retries.is_over(start + limit));
}

TEST(transfer_retries, are_as_patient_as_ever_after_a_calm) {
  transfer_retries retries;
  retries.failed("send", ENOMEM, start);
  const time_point later = start + transfer_retries::calm + 1ns;
  retries.failed("send", ENOMEM, later);
  EXPECT_FALSE(retries.is_over(start + limit));
  EXPECT_TRUE(retries.is_over(later + limit));
}

TEST(transfer_retries, bear_a_time_that_goes_far_ahead) {
  transfer_retries retries;
  retries.failed("send", ENOMEM, start);
  const time_point late = start + 24h * 365 * 100;
  EXPECT_TRUE(retries.is_due(late));
  retries.failed("send", ENOMEM, late);
  EXPECT_FALSE(retries.is_over(late)) << "for a hundred years nothing has failed";
}

TEST(transfer_retries, name_the_last_failure) {
  transfer_retries retries;
  retries.failed("send", ENOBUFS, start);
  retries.failed("recv", ENOMEM, start);
  EXPECT_EQ(retries.why(), "recv: Cannot allocate memory");
}

}  // namespace
}  // namespace shmpool::pool
