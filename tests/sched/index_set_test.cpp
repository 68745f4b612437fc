// The set of small numbers against std::set.
#include "sched/index_set.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace shmpool::sched {
namespace {

TEST(index_set, is_empty_at_first_and_when_all_are_erased) {
  index_set tested;
  EXPECT_TRUE(tested.empty());
  tested.reserve(100);
  EXPECT_TRUE(tested.empty());
  tested.insert(99);
  EXPECT_FALSE(tested.empty());
  tested.erase(99);
  EXPECT_TRUE(tested.empty());
}

TEST(index_set, agrees_with_a_sorted_set_whatever_is_inserted_and_erased) {
  constexpr index_type bound = 200;
  std::mt19937 random(1);
  index_set tested;
  tested.reserve(bound);
  std::set<index_type> expected;
  for (int step = 0; step != 5000; ++step) {
    const auto index = static_cast<index_type>(random() % bound);
    if (random() % 2 == 0) {
      tested.insert(index);
      expected.insert(index);
    } else {
      tested.erase(index);
      expected.erase(index);
    }
    const auto from = static_cast<index_type>(random() % (bound + 1));
    const auto next = expected.lower_bound(from);
    ASSERT_EQ(tested.next(from), next == expected.end() ? no_index : *next);
    ASSERT_EQ(tested.empty(), expected.empty());
  }
}

}  // namespace
}  // namespace shmpool::sched
