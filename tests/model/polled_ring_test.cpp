// All interleavings of a worker and of a parent that polls, stops to poll, sleeps and hears the bell: every reply comes
// once and in order, and none is waited for by a parent that nobody wakes. A protocol that is wrong in any of these
// ways is found out.
#include "model/polled_ring_model.hpp"
#include "model/walk.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace shmpool::model {
namespace {

struct walk : walked<poll_breach> {
  // That the walk has been where it matters.
  bool all_came = false, both_ways = false, skipped = false, overwritten = false, behind = false, heard = false,
       not_rung_again = false, rung_twice = false, full = false, rung_late = false, polled_late = false;
};

/// The rules, until a breach of that kind was found.
struct until_found {
  polled_ring rules;
  poll_breach what;
  mutable bool found = false;

  std::vector<poll_state> successors(const poll_state& from) const {
    if (found) return {};
    std::vector<poll_state> out = rules.successors(from);
    found = std::any_of(out.begin(), out.end(), [this](const poll_state& each) { return each.broken == what; });
    return out;
  }
};

template <class Rules>
walk walk_all(const Rules& rules) {
  walk result;
  static_cast<walked<poll_breach>&>(result) = model::walk_all<poll_state>(rules, [&](const poll_state& from) {
    result.all_came |= from.got == reply_count && from.parent == parent_at::asleep;
    result.both_ways |= from.socket_at < from.read && from.socket[0] != 0 && (from.socket[0] & 0x80) == 0;
    result.skipped |= (from.socket[0] & 0x80) != 0;
    result.overwritten |= from.parent == parent_at::checking && from.begin > from.read;
    result.behind |= from.parent == parent_at::asleep && from.again;
    const bool sees_sleep = from.worker == worker_at::deciding && from.sleep % 2 == 1;
    result.heard |= from.parent == parent_at::heard;
    result.not_rung_again |= sees_sleep && from.rung == from.sleep;
    result.rung_twice |= from.worker == worker_at::ringing && from.rings != 0;
    result.full |= from.worker == worker_at::ringing && from.rings_of_others == bell_size;
    result.rung_late |= from.parent == parent_at::awake && from.rings != 0;
    result.polled_late |= from.parent == parent_at::awake && sees_sleep;
  });
  return result;
}

TEST(polled_ring, keeps_every_promise_in_all_interleavings) {
  const walk all = walk_all(polled_ring(poll_flaw::none));
  EXPECT_TRUE(all.breaches.empty()) << "breach number " << static_cast<int>(*all.breaches.begin());
  RecordProperty("states", std::to_string(all.states));
  EXPECT_GT(all.states, 10'000u);
  EXPECT_TRUE(all.all_came);
  EXPECT_TRUE(all.both_ways);
  EXPECT_TRUE(all.skipped);
  EXPECT_TRUE(all.overwritten);
  EXPECT_TRUE(all.behind);
  EXPECT_TRUE(all.heard);
  EXPECT_TRUE(all.not_rung_again);
  EXPECT_TRUE(all.rung_twice);
  EXPECT_TRUE(all.full);
  EXPECT_TRUE(all.rung_late);
  EXPECT_TRUE(all.polled_late);
}

struct wrong_poll {
  const char* name;
  poll_flaw what;
  poll_breach found;  ///< by this at least
};

class polled_ring_with : public ::testing::TestWithParam<wrong_poll> {};

TEST_P(polled_ring_with, is_found_out) {
  const walk all = walk_all(until_found{polled_ring(GetParam().what), GetParam().found});
  EXPECT_TRUE(all.breaches.contains(GetParam().found)) << [&] {
    std::string numbers;
    for (const poll_breach each : all.breaches) numbers += ' ' + std::to_string(static_cast<int>(each));
    return "breaches:" + numbers;
  }();
  RecordProperty("states", std::to_string(all.states));
}

const wrong_poll wrong_polls[] = {
    {"no_last_look", poll_flaw::no_last_look, poll_breach::lost_in_sleep},
    {"a_last_look_before_the_sleep_is_announced", poll_flaw::last_look_before_flag, poll_breach::lost_in_sleep},
    {"no_fence_behind_the_sleep", poll_flaw::no_parent_fence, poll_breach::lost_in_sleep},
    {"no_fence_behind_the_renewal", poll_flaw::no_renewal_fence, poll_breach::lost_in_sleep},
    {"a_look_before_the_renewal", poll_flaw::look_before_renewal, poll_breach::lost_in_sleep},
    {"no_renewal", poll_flaw::no_renewal, poll_breach::lost_in_sleep},
    {"sleeps_that_begin_with_the_same_number", poll_flaw::same_sleep, poll_breach::lost_in_sleep},
    {"no_fence_behind_the_end", poll_flaw::no_worker_fence, poll_breach::lost_in_sleep},
    {"a_number_that_is_read_before_the_end_is_published", poll_flaw::flag_read_before_end, poll_breach::lost_in_sleep},
    {"a_ring_for_all_sleeps", poll_flaw::rung_once, poll_breach::lost_in_sleep},
    {"a_ring_until_the_parent_polls", poll_flaw::rung_until_polled, poll_breach::lost_in_sleep},
    {"a_full_bell_that_counts_as_a_ring", poll_flaw::full_is_rung, poll_breach::lost_in_sleep},
    {"a_full_bell_that_is_remembered_as_a_ring", poll_flaw::full_is_remembered, poll_breach::lost_in_sleep},
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
