// All interleavings of a worker and of a parent that polls, stops to poll and sleeps: every reply comes once and in
// order, and none is waited for by a parent that nobody wakes. A protocol that is wrong in any of these ways is found
// out.
#include "model/polled_ring_model.hpp"
#include "model/walk.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>

namespace shmpool::model {
namespace {

struct walk : walked<poll_breach> {
  // That the walk has been where it matters.
  bool all_came = false, both_ways = false, skipped = false, overwritten = false, behind = false;
};

walk walk_all(poll_flaw which) {
  walk result;
  static_cast<walked<poll_breach>&>(result) =
      model::walk_all<poll_state>(polled_ring(which), [&](const poll_state& from) {
        result.all_came |= from.got == reply_count && from.parent == parent_at::asleep;
        result.both_ways |= from.socket_at < from.read && from.socket[0] != 0 && (from.socket[0] & 0x80) == 0;
        result.skipped |= (from.socket[0] & 0x80) != 0;
        result.overwritten |= from.parent == parent_at::checking && from.begin > from.read;
        result.behind |= from.parent == parent_at::asleep && from.again;
      });
  return result;
}

TEST(polled_ring, keeps_every_promise_in_all_interleavings) {
  const walk all = walk_all(poll_flaw::none);
  EXPECT_TRUE(all.breaches.empty()) << "breach number " << static_cast<int>(*all.breaches.begin());
  RecordProperty("states", std::to_string(all.states));
  EXPECT_GT(all.states, 10'000u);
  EXPECT_TRUE(all.all_came);
  EXPECT_TRUE(all.both_ways);
  EXPECT_TRUE(all.skipped);
  EXPECT_TRUE(all.overwritten);
  EXPECT_TRUE(all.behind);
}

struct wrong_poll {
  const char* name;
  poll_flaw what;
  poll_breach found;  ///< by this at least
};

class polled_ring_with : public ::testing::TestWithParam<wrong_poll> {};

TEST_P(polled_ring_with, is_found_out) {
  const walk all = walk_all(GetParam().what);
  EXPECT_TRUE(all.breaches.contains(GetParam().found)) << [&] {
    std::string numbers;
    for (const poll_breach each : all.breaches) numbers += ' ' + std::to_string(static_cast<int>(each));
    return "breaches:" + numbers;
  }();
}

const wrong_poll wrong_polls[] = {
    {"no_last_look", poll_flaw::no_last_look, poll_breach::lost_in_sleep},
    {"a_last_look_before_the_flag_is_down", poll_flaw::last_look_before_flag, poll_breach::lost_in_sleep},
    {"no_fence_behind_the_flag", poll_flaw::no_parent_fence, poll_breach::lost_in_sleep},
    {"no_fence_behind_the_end", poll_flaw::no_worker_fence, poll_breach::lost_in_sleep},
    {"a_flag_that_is_read_before_the_end_is_published", poll_flaw::flag_read_before_end, poll_breach::lost_in_sleep},
    {"no_look_behind_a_large_reply", poll_flaw::no_look_behind_large, poll_breach::lost_in_sleep},
    {"positions_that_are_not_compared", poll_flaw::no_position_check, poll_breach::wrong_reply},
    {"places_used_again_before_that_is_said", poll_flaw::begin_after_bytes, poll_breach::wrong_reply},
    {"copies_that_are_not_checked", poll_flaw::begin_not_checked, poll_breach::wrong_reply},
    {"skips_that_are_not_told", poll_flaw::skip_not_told, poll_breach::out_of_step},
    {"a_large_reply_that_is_sent_before_it_is_published", poll_flaw::large_sent_before_end, poll_breach::out_of_step},
};

INSTANTIATE_TEST_SUITE_P(flaw, polled_ring_with, ::testing::ValuesIn(wrong_polls),
                         [](const auto& instance) { return std::string(instance.param.name); });

}  // namespace
}  // namespace shmpool::model
