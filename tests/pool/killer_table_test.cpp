// Which calls are refused for having killed workers.
#include "pool/killer_table.hpp"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <vector>

namespace shmpool::pool {
namespace {

using namespace std::chrono_literals;
using bytes = std::vector<std::byte>;

const bytes one{std::byte{1}}, two{std::byte{2}};
constexpr killer_table::time_point now{1000s};

TEST(killer_table, refuses_the_same_function_with_the_same_arguments_and_nothing_else) {
  killer_table table(2);
  table.killed(7, one, now);
  EXPECT_EQ(table.refuses(7, one, now), 0u);
  table.killed(7, one, now);
  EXPECT_EQ(table.refuses(7, one, now), 2u);
  EXPECT_EQ(table.refuses(7, two, now), 0u);
  EXPECT_EQ(table.refuses(7, {}, now), 0u);
  EXPECT_EQ(table.refuses(8, one, now), 0u);
}

TEST(killer_table, forgets_a_call_that_ends_well_and_one_that_was_long_ago) {
  killer_table table(1);
  table.killed(7, one, now);
  table.ended(7, two);
  EXPECT_EQ(table.refuses(7, one, now), 1u);
  table.ended(7, one);
  EXPECT_EQ(table.refuses(7, one, now), 0u);
  table.killed(7, one, now);
  EXPECT_EQ(table.refuses(7, one, now + killer_table::memory), 0u);
  table.killed(7, one, now + killer_table::memory);
  EXPECT_EQ(table.refuses(7, one, now + killer_table::memory), 1u);
}

TEST(killer_table, is_bounded_and_forgets_the_oldest_first) {
  killer_table table(1);
  for (std::uint32_t i = 0; i != killer_table::most_calls + 1; ++i) table.killed(i, one, now + std::chrono::seconds(i));
  EXPECT_EQ(table.refuses(0, one, now), 0u);
  EXPECT_EQ(table.refuses(1, one, now), 1u);
  EXPECT_EQ(table.refuses(killer_table::most_calls, one, now), 1u);
  const bytes large(killer_table::most_bytes + 1);
  table.killed(99, large, now);
  EXPECT_EQ(table.refuses(99, large, now), 0u);
}

TEST(killer_table, remembers_nothing_with_a_limit_of_zero) {
  killer_table table(0);
  for (int i = 0; i != 10; ++i) table.killed(7, one, now);
  EXPECT_EQ(table.refuses(7, one, now), 0u);
}

}  // namespace
}  // namespace shmpool::pool
