// The estimate of run times that scheduler, workers and map() share.
#include <shmpool/detail/run_mean.hpp>

#include <gtest/gtest.h>

#include <chrono>

namespace shmpool::detail {
namespace {

using namespace std::chrono_literals;

TEST(run_mean, is_unknown_before_the_first_run) {
  EXPECT_EQ(recent_run_mean().get(), recent_run_mean::unknown);
}

TEST(run_mean, is_the_mean_of_the_first_runs) {
  recent_run_mean mean;
  mean.add(100us);
  EXPECT_EQ(mean.get(), 100us);
  mean.add(20us);
  EXPECT_EQ(mean.get(), 60us);
  mean.add(30us);
  EXPECT_EQ(mean.get(), 50us);
}

TEST(run_mean, takes_a_quarter_of_each_later_run) {
  recent_run_mean mean;
  for (int i = 0; i != 4; ++i) mean.add(100us);
  mean.add(20us);
  EXPECT_EQ(mean.get(), 80us);
  mean.add(0us);
  EXPECT_EQ(mean.get(), 60us);
}

// 99 runs of 1 us and one of 10 ms: replies of such a function must not wait for its next run.
TEST(run_mean, remembers_one_long_run_in_a_hundred) {
  recent_run_mean recent;
  lasting_run_mean lasting;
  for (int round = 0; round != 10; ++round) {
    for (int i = 0; i != 100; ++i) {
      recent.add(i == 0 ? 10ms : 1us);
      lasting.add(i == 0 ? 10ms : 1us);
    }
  }
  EXPECT_LT(recent.get(), 2us);
  EXPECT_GT(lasting.get(), 50us);
}

TEST(run_mean, takes_a_negative_time_for_none) {
  recent_run_mean mean;
  mean.add(-1h);
  EXPECT_EQ(mean.get(), 0ns);
}

// The longest times neither overflow nor turn the mean into "unknown".
TEST(run_mean, survives_the_longest_times) {
  recent_run_mean mean;
  for (int i = 0; i != 10; ++i) mean.add(std::chrono::nanoseconds::max() - 1ns);
  EXPECT_GT(mean.get(), 24h * 365);
  for (int i = 0; i != 100; ++i) mean.add(1us);
  EXPECT_LT(mean.get(), 24h * 365);
}

}  // namespace
}  // namespace shmpool::detail
