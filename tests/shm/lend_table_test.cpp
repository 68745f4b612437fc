// Which ranges of a segment may be lent at the same time: what a list of all lends would say, in less time.
#include "shm/lend_table.hpp"

#include "support/environment.hpp"

#include <shmpool/detail/attachment.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace shmpool::shm {
namespace {

constexpr bool read = false, write = true;

TEST(lend_tables, let_any_number_read_and_nobody_write_there) {
  lend_table lends;
  for (int i = 0; i != 3; ++i) EXPECT_TRUE(lends.lend(0, 100, read));
  EXPECT_TRUE(lends.lend(50, 10, read));
  EXPECT_FALSE(lends.lend(99, 10, write));
  EXPECT_TRUE(lends.lend(100, 10, write)) << "behind the end";
  for (int i = 0; i != 3; ++i) {
    EXPECT_FALSE(lends.lend(0, 1, write)) << i << " of three have given it back";
    lends.give_back(0, 100, read);
  }
  EXPECT_TRUE(lends.lend(0, 1, write));
  EXPECT_FALSE(lends.lend(55, 1, write)) << "the fourth still reads";
  lends.give_back(50, 10, read);
  EXPECT_TRUE(lends.lend(55, 1, write));
}

TEST(lend_tables, let_one_write_and_nobody_else) {
  lend_table lends;
  EXPECT_TRUE(lends.lend(100, 100, write));
  EXPECT_FALSE(lends.lend(100, 100, write));
  EXPECT_FALSE(lends.lend(100, 100, read));
  EXPECT_FALSE(lends.lend(0, 101, read));
  EXPECT_FALSE(lends.lend(199, 1, write));
  EXPECT_TRUE(lends.lend(0, 100, read));
  EXPECT_TRUE(lends.lend(200, 100, write));
  lends.give_back(100, 100, write);
  EXPECT_TRUE(lends.lend(150, 1, read));
  EXPECT_FALSE(lends.lend(120, 100, write));
}

TEST(lend_tables, have_nothing_against_a_range_without_bytes) {
  lend_table lends;
  EXPECT_TRUE(lends.lend(0, 100, write));
  EXPECT_TRUE(lends.lend(50, 0, write));
  EXPECT_TRUE(lends.lend(50, 0, read));
  lends.give_back(50, 0, write);
  lends.give_back(50, 0, read);
  lends.give_back(0, 100, write);
  EXPECT_TRUE(lends.empty());
}

TEST(lend_tables, know_ranges_at_the_end_of_all_memory) {
  constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
  lend_table lends;
  EXPECT_TRUE(lends.lend(0, most, read));
  EXPECT_FALSE(lends.lend(most - 1, 1, write));
  lends.give_back(0, most, read);
  EXPECT_TRUE(lends.lend(most - 1, 1, write));
  EXPECT_FALSE(lends.lend(0, most, read));
}

TEST(lend_tables, forget_everything) {
  lend_table lends;
  EXPECT_TRUE(lends.lend(0, 100, read));
  EXPECT_TRUE(lends.lend(100, 100, write));
  lends.clear();
  EXPECT_TRUE(lends.empty());
  EXPECT_TRUE(lends.lend(0, 200, write));
}

TEST(lend_tables, say_what_a_list_of_all_lends_says) {
  struct lent {
    std::uint64_t offset, length;
    bool write;
  };
  const auto seed = testing::from_environment("SHMPOOL_SEED", 1);
  for (std::uint64_t round = 0; round != 300; ++round) {
    SCOPED_TRACE(::testing::Message() << "SHMPOOL_SEED=" << seed << ", round " << round);
    std::mt19937_64 random(seed * 1000 + round);
    const std::uint64_t places = 1 + random() % (round % 2 == 0 ? 200 : 20'000);
    const std::uint64_t longest = 1 + random() % (round % 3 == 0 ? 300 : 20);
    lend_table lends;
    std::vector<lent> all;
    for (int step = 0; step != 500; ++step) {
      if (!all.empty() && random() % 5 < 2) {
        std::swap(all[random() % all.size()], all.back());
        lends.give_back(all.back().offset, all.back().length, all.back().write);
        all.pop_back();
        continue;
      }
      const lent next{random() % places, random() % longest, random() % 3 == 0};
      const bool right = next.length == 0 || std::none_of(all.begin(), all.end(), [&](const lent& other) {
                           return (next.write || other.write) &&
                                  detail::ranges_overlap(next.offset, next.length, other.offset, other.length);
                         });
      ASSERT_EQ(lends.lend(next.offset, next.length, next.write), right)
          << next.offset << " " << next.length << (next.write ? " to write" : " to read") << ", step " << step;
      if (right && next.length != 0) all.push_back(next);
    }
    for (const lent& each : all) lends.give_back(each.offset, each.length, each.write);
    EXPECT_TRUE(lends.empty());
  }
}

}  // namespace
}  // namespace shmpool::shm
