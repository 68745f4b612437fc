#include "shm_fixture.hpp"

#include <limits>

namespace shmpool::shm {
namespace {

struct range {
  std::uint64_t offset, length;
  bool write;
};
struct overlap_case {
  range first, second;
  bool both;
};

class lends_table : public shm_fixture, public ::testing::WithParamInterface<overlap_case> {};

TEST_P(lends_table, is_kept_in_either_order) {
  const auto pool = open();
  const shm_handle handle = pool->allocate(64 * KiB, 8);
  auto& segment = segment_of(handle);
  const auto& [first, second, both] = GetParam();
  for (const auto& [a, b] : {std::pair{first, second}, std::pair{second, first}}) {
    ASSERT_TRUE(begin_lend(segment, a.offset, a.length, a.write));
    EXPECT_EQ(begin_lend(segment, b.offset, b.length, b.write), both);
    end_lend(segment, a.offset, a.length, a.write);
    if (both) end_lend(segment, b.offset, b.length, b.write);
  }
}

constexpr auto end_of_time = std::numeric_limits<std::uint64_t>::max();

INSTANTIATE_TEST_SUITE_P(ranges, lends_table,
                         ::testing::Values(overlap_case{{0, 100, false}, {0, 100, false}, true},  // readers share
                                           overlap_case{{0, 100, true}, {0, 100, false}, false},  // a writer does not
                                           overlap_case{{0, 100, true}, {0, 100, true}, false},
                                           overlap_case{{0, 100, true}, {100, 100, true}, true},   // neighbours
                                           overlap_case{{0, 101, true}, {100, 100, true}, false},  // one byte in common
                                           overlap_case{
                                               {0, 300, true}, {100, 100, false}, false},  // one inside the other
                                           overlap_case{{0, 100, true}, {200, 100, true}, true},
                                           overlap_case{{0, 100, true}, {50, 0, true}, true},  // nothing is no conflict
                                           overlap_case{{8, end_of_time, true}, {100, 1, false}, false},
                                           overlap_case{{100, 1, true}, {8, end_of_time - 4, true}, false}));

class lends : public shm_fixture {};

TEST_F(lends, one_end_takes_off_one_of_several_equal_ranges) {
  const auto pool = open();
  const shm_handle handle = pool->allocate(64 * KiB, 8);
  auto& segment = segment_of(handle);
  ASSERT_TRUE(begin_lend(segment, 0, 10, false));
  ASSERT_TRUE(begin_lend(segment, 0, 10, false));
  end_lend(segment, 0, 10, false);
  EXPECT_FALSE(begin_lend(segment, 5, 1, true));
  end_lend(segment, 0, 10, false);
  EXPECT_TRUE(begin_lend(segment, 5, 1, true));
  end_lend(segment, 5, 1, true);
}

TEST_F(lends, what_was_refused_leaves_no_trace) {
  const auto pool = open();
  const shm_handle handle = pool->allocate(64 * KiB, 8);
  auto& segment = segment_of(handle);
  ASSERT_TRUE(begin_lend(segment, 0, 10, false));
  ASSERT_FALSE(begin_lend(segment, 0, 100, true));
  EXPECT_TRUE(begin_lend(segment, 50, 10, true));
  end_lend(segment, 50, 10, true);
  end_lend(segment, 0, 10, false);
}

TEST_F(lends, segments_do_not_share_them) {
  const auto pool = open();
  const shm_handle first = pool->allocate(64 * KiB, 8);
  const shm_handle second = pool->allocate(64 * KiB, 8);
  ASSERT_TRUE(begin_lend(segment_of(first), 0, 10, true));
  EXPECT_TRUE(begin_lend(segment_of(second), 0, 10, true));
  end_lend(segment_of(first), 0, 10, true);
  end_lend(segment_of(second), 0, 10, true);
}

}  // namespace
}  // namespace shmpool::shm
