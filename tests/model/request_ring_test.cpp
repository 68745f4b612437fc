// All interleavings of a parent that puts frames into a ring, or sends them, and of a worker that takes them from
// either and sleeps: every frame comes once and in order, and none is left to a worker that nobody wakes. A protocol
// that is wrong in any of these ways is found out. All of it for a worker that sleeps at its socket, one that sleeps at
// the ring, and one that changes from there to the socket.
#include "model/request_ring_model.hpp"
#include "model/walk.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>

namespace shmpool::model {
namespace {

struct walk : walked<request_breach> {
  // That the walk has been where it matters.
  bool all_came = false, full = false, two_markers = false, early = false, before_marker = false, slept_again = false,
       consumed = false;
  // At the futex.
  bool woken_in_vain = false, wakes_nobody = false, kept_awake = false, waits_again = false, changed_late = false;
};

walk walk_all(request_flaw which, request_bed bed, std::uint8_t frames) {
  using parent_at = request_state::parent_at;
  using worker_at = request_state::worker_at;
  walk result;
  static_cast<walked<request_breach>&>(result) =
      model::walk_all<request_state>(request_ring(which, bed, frames), [&](const request_state& from) {
        const bool enqueued = from.worker == worker_at::enqueued;
        const bool asleep = from.worker == worker_at::asleep || enqueued;
        result.all_came |= from.got == frames && asleep && !from.sends && !from.receives;
        result.full |= from.written - from.taken == request_ring_size;
        result.two_markers |= std::count(from.ring.begin(), from.ring.end(), by_socket) == 2;
        result.early |= !from.receives && from.received != 0;
        result.before_marker |=
            !from.receives && from.received != 0 && from.end == from.read && from.end != from.written;
        result.slept_again |=
            from.woken != 0 && from.woken == from.sleep && from.announced % 2 == 1 && from.announced != from.sleep;
        result.consumed |= asleep && !from.receives && from.sending && from.sent == 0;
        const bool wakes = from.parent == parent_at::waking, has_frames = from.end != from.read;
        result.woken_in_vain |= wakes && enqueued && !has_frames;
        result.wakes_nobody |= wakes && from.worker == worker_at::waiting;
        result.kept_awake |= from.worker == worker_at::waiting && has_frames;
        result.waits_again |= from.worker == worker_at::woken && !has_frames;
        result.changed_late |= wakes && from.refused && from.worker == worker_at::asleep && !from.receives;
      });
  return result;
}

void expect_promises_kept(const walk& all) {
  EXPECT_TRUE(all.breaches.empty()) << "breach number " << static_cast<int>(*all.breaches.begin());
  ::testing::Test::RecordProperty("states", std::to_string(all.states));
  EXPECT_GT(all.states, 10'000u);
  EXPECT_TRUE(all.all_came);
  EXPECT_TRUE(all.full);
  EXPECT_TRUE(all.two_markers);
  EXPECT_TRUE(all.early);
  EXPECT_TRUE(all.before_marker);
  EXPECT_TRUE(all.consumed);
}

void expect_futex_used(const walk& all) {
  EXPECT_TRUE(all.woken_in_vain);
  EXPECT_TRUE(all.wakes_nobody);
  EXPECT_TRUE(all.kept_awake);
  EXPECT_TRUE(all.waits_again);
}

TEST(request_ring, keeps_every_promise_in_all_interleavings) {
  const walk all = walk_all(request_flaw::none, request_bed::socket, frame_count);
  expect_promises_kept(all);
  EXPECT_TRUE(all.slept_again);
}

TEST(request_ring, keeps_every_promise_to_a_worker_at_the_futex) {
  const walk all = walk_all(request_flaw::none, request_bed::ring, frame_count);
  expect_promises_kept(all);
  expect_futex_used(all);
}

TEST(request_ring, keeps_every_promise_to_a_worker_that_is_refused_the_futex) {
  const walk all = walk_all(request_flaw::none, request_bed::either, 4);
  expect_promises_kept(all);
  expect_futex_used(all);
  EXPECT_TRUE(all.slept_again);
  EXPECT_TRUE(all.changed_late);
}

// With the fence, what the futex compares is a last look.
TEST(request_ring, needs_no_last_look_before_the_futex) {
  EXPECT_TRUE(walk_all(request_flaw::no_last_look, request_bed::ring, 4).breaches.empty());
}

struct wrong_request {
  const char* name;
  request_flaw what;
  request_breach found;     ///< by this at least
  std::uint8_t frames = 3;  ///< so many show it
  request_bed bed = request_bed::socket;
};

class request_ring_with : public ::testing::TestWithParam<wrong_request> {};

TEST_P(request_ring_with, is_found_out) {
  const walk all = walk_all(GetParam().what, GetParam().bed, GetParam().frames);
  EXPECT_TRUE(all.breaches.contains(GetParam().found)) << [&] {
    std::string numbers;
    for (const request_breach each : all.breaches) numbers += ' ' + std::to_string(static_cast<int>(each));
    return "breaches:" + numbers;
  }();
}

const wrong_request wrong_requests[] = {
    {"no_fence_behind_the_end", request_flaw::no_parent_fence, request_breach::lost_in_sleep},
    {"no_fence_behind_the_sleep", request_flaw::no_worker_fence, request_breach::lost_in_sleep},
    {"a_sleep_that_is_read_before_the_end_is_published", request_flaw::sleep_read_before_end,
     request_breach::lost_in_sleep},
    {"a_last_look_before_the_sleep_is_announced", request_flaw::last_look_before_sleep, request_breach::lost_in_sleep},
    {"no_last_look", request_flaw::no_last_look, request_breach::lost_in_sleep},
    {"a_pending_send_that_counts_as_a_wake", request_flaw::pending_send_wakes, request_breach::lost_in_sleep},
    {"frames_to_be_sent_that_count_as_a_wake", request_flaw::sent_frames_wake, request_breach::lost_in_sleep},
    {"a_wake_for_all_sleeps", request_flaw::woken_once, request_breach::lost_in_sleep},
    {"sleeps_that_are_all_the_same", request_flaw::same_sleep, request_breach::lost_in_sleep},
    {"places_given_up_before_they_are_copied", request_flaw::taken_before_copied, request_breach::wrong_frame, 4},
    {"no_reserve_for_the_marker", request_flaw::no_reserve, request_breach::wrong_frame, 4},
    {"a_return_to_a_full_ring", request_flaw::return_without_room, request_breach::wrong_frame, 4},
    {"no_marker_in_the_ring", request_flaw::no_by_socket, request_breach::lost_in_sleep},
    {"no_marker_on_the_socket", request_flaw::no_by_ring, request_breach::deadlock},
    {"early_frames_that_are_dropped", request_flaw::early_dropped, request_breach::lost_in_sleep},
    {"early_frames_that_are_taken", request_flaw::early_taken, request_breach::wrong_frame},
    {"an_end_that_is_published_before_the_bytes", request_flaw::end_before_bytes, request_breach::wrong_frame},
    {"no_fence_behind_the_end_for_a_futex", request_flaw::no_parent_fence, request_breach::lost_in_sleep, 3,
     request_bed::ring},
    {"no_fence_behind_the_sleep_at_a_futex", request_flaw::no_worker_fence, request_breach::lost_in_sleep, 3,
     request_bed::ring},
    {"a_futex_woken_before_the_end_is_published", request_flaw::sleep_read_before_end, request_breach::lost_in_sleep, 3,
     request_bed::ring},
    {"a_last_look_before_the_sleep_at_a_futex_is_announced", request_flaw::last_look_before_sleep,
     request_breach::lost_in_sleep, 3, request_bed::ring},
    {"a_futex_woken_once_for_each_sleep", request_flaw::woken_once_per_sleep, request_breach::lost_in_sleep, 3,
     request_bed::ring},
    {"a_futex_that_does_not_compare", request_flaw::no_compare, request_breach::lost_in_sleep, 3, request_bed::ring},
    {"a_pending_send_that_counts_as_a_wake_of_a_futex", request_flaw::pending_send_wakes, request_breach::lost_in_sleep,
     3, request_bed::ring},
    {"frames_to_be_sent_that_count_as_a_wake_of_a_futex", request_flaw::send_wakes, request_breach::lost_in_sleep, 3,
     request_bed::ring},
    {"a_marker_that_wakes_no_futex", request_flaw::sent_frames_wake, request_breach::lost_in_sleep, 3,
     request_bed::ring},
    {"a_worker_that_calls_itself_awake_and_sleeps_on", request_flaw::awake_when_woken, request_breach::lost_in_sleep, 3,
     request_bed::ring},
    {"a_parent_that_calls_the_worker_awake", request_flaw::flag_down_by_parent, request_breach::lost_in_sleep, 3,
     request_bed::ring},
    {"a_futex_where_frames_come_by_the_socket", request_flaw::not_at_socket, request_breach::lost_in_sleep, 3,
     request_bed::ring},
    {"no_marker_in_the_ring_for_a_futex", request_flaw::no_by_socket, request_breach::lost_in_sleep, 3,
     request_bed::ring},
    {"no_marker_on_the_socket_for_a_futex", request_flaw::no_by_ring, request_breach::deadlock, 3, request_bed::ring},
    {"a_socket_that_is_told_after_the_sleep", request_flaw::place_after_sleep, request_breach::lost_in_sleep, 3,
     request_bed::either},
    {"one_number_for_a_sleep_at_both", request_flaw::futex_noted, request_breach::lost_in_sleep, 3,
     request_bed::either},
};

INSTANTIATE_TEST_SUITE_P(flaw, request_ring_with, ::testing::ValuesIn(wrong_requests),
                         [](const auto& instance) { return std::string(instance.param.name); });

}  // namespace
}  // namespace shmpool::model
