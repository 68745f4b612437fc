// What a task is lent: others do not get what would race, and get it as soon as it is given back.
#include "pool/lent_arrays.hpp"

#include "shm/shm_fixture.hpp"
#include "shm/store.hpp"

#include <shmpool/error.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace shmpool::pool {
namespace {

using detail::access;
using shm::segment_of;
using ::testing::HasSubstr;

class lent_arrays_test : public shm::shm_fixture {
 protected:
  static shm::store_options nameless() {
    shm::store_options options;
    options.backing = backing::memfd;
    return options;
  }

  /// True if nobody else may write to it at the moment.
  bool is_lent(const shm_handle& handle, std::uint64_t offset = 0, std::uint64_t length = 100) {
    if (!shm::begin_lend(segment_of(handle), offset, length, true)) return true;
    shm::end_lend(segment_of(handle), offset, length, true);
    return false;
  }

  /// The text of the errc::array_busy with which they are refused.
  static std::string refusal_of(std::vector<detail::attachment> all) {
    try {
      const lent_arrays lent(std::move(all));
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code(), errc::array_busy);
      return error.what();
    }
    return "they were not refused";
  }

  std::shared_ptr<shm::store> memory = open(nameless());
  shm_handle first = memory->allocate(4096, 8), second = memory->allocate(4096, 8);
};

TEST_F(lent_arrays_test, are_lent_and_held_as_long_as_they_live) {
  {
    const lent_arrays lent({{first, 0, 100, access::write}, {second, 0, 100, access::read}});
    EXPECT_TRUE(is_lent(first));
    EXPECT_TRUE(is_lent(second));
    EXPECT_EQ(first.use_count(), 2);
  }
  EXPECT_FALSE(is_lent(first));
  EXPECT_FALSE(is_lent(second));
  EXPECT_EQ(first.use_count(), 1);
}

TEST_F(lent_arrays_test, that_another_task_has_are_refused_and_nothing_is_lent) {
  const lent_arrays others({{second, 50, 100, access::read}});
  EXPECT_THAT(refusal_of({{first, 0, 100, access::write}, {second, 0, 100, access::write}}),
              HasSubstr("a task in flight has the array"));
  EXPECT_FALSE(is_lent(first));
  EXPECT_FALSE(is_lent(second, 0, 50));
  EXPECT_TRUE(is_lent(second)) << "what the other task has it keeps";
  EXPECT_EQ(first.use_count(), 1);
}

TEST_F(lent_arrays_test, that_overlap_within_a_call_are_refused_and_nothing_is_lent) {
  for (const auto& [one, two] : {std::pair{access::write, access::write}, std::pair{access::write, access::read},
                                 std::pair{access::read, access::own}}) {
    EXPECT_THAT(refusal_of({{second, 0, 8, access::write}, {first, 0, 100, one}, {first, 99, 100, two}}),
                HasSubstr("two arguments of this call"));
    EXPECT_FALSE(is_lent(first, 0, 4096));
    EXPECT_FALSE(is_lent(second, 0, 4096));
  }
}

TEST_F(lent_arrays_test, that_are_only_read_are_shared) {
  const lent_arrays lent({{first, 0, 100, access::read}, {first, 50, 100, access::read}});
  const lent_arrays others({{first, 0, 200, access::read}});
  EXPECT_TRUE(is_lent(first));
}

TEST_F(lent_arrays_test, move_with_what_was_lent) {
  lent_arrays lent({{first, 0, 100, access::write}});
  std::optional<lent_arrays> moved(std::move(lent));
  EXPECT_TRUE(lent.empty());
  lent.clear();
  EXPECT_TRUE(is_lent(first));
  ASSERT_EQ(moved->all().size(), 1u);
  EXPECT_EQ(moved->all()[0].handle, first);
  moved.reset();
  EXPECT_FALSE(is_lent(first));
}

TEST_F(lent_arrays_test, give_back_what_they_had_when_a_value_is_assigned) {
  lent_arrays lent({{first, 0, 100, access::write}});
  lent = lent_arrays({{second, 0, 100, access::write}});
  EXPECT_FALSE(is_lent(first));
  EXPECT_TRUE(is_lent(second));
}

TEST_F(lent_arrays_test, are_given_back_once) {
  lent_arrays lent({{first, 0, 100, access::read}});
  const lent_arrays others({{first, 0, 100, access::read}});
  lent.clear();
  EXPECT_TRUE(lent.empty());
  lent.clear();
  EXPECT_TRUE(is_lent(first)) << "the equal range of the other task is still lent";
}

TEST_F(lent_arrays_test, know_how_many_bytes_they_have) {
  EXPECT_EQ(lent_arrays().bytes(), 0u);
  EXPECT_EQ(lent_arrays({{first, 0, 100, access::read}, {second, 8, 11, access::read}}).bytes(), 111u);
}

TEST_F(lent_arrays_test, know_which_workers_have_the_first_that_any_has) {
  const lent_arrays lent({{first, 0, 100, access::read}, {second, 0, 100, access::read}});
  EXPECT_EQ(lent_arrays().mapped_by(), 0u);
  EXPECT_EQ(lent.mapped_by(), 0u);
  segment_of(second).note_mapped_by(3);
  EXPECT_EQ(lent.mapped_by(), std::uint64_t{1} << 3);
  segment_of(first).note_mapped_by(64 + 5);
  EXPECT_EQ(lent.mapped_by(), std::uint64_t{1} << 5);
}

}  // namespace
}  // namespace shmpool::pool
