// All interleavings of parent, worker and death over the slots and the reply ring keep what docs/control-page.md
// promises, and a protocol that is wrong in any of the ways that one could think of does not.
#include "model/slot_protocol_model.hpp"
#include "model/walk.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <set>
#include <string>

namespace shmpool::model {
namespace {

struct walk : walked<breach> {
  // That the walk has been where it matters.
  bool lost = false, left_to_second = false, saw_stop = false, slot_used_again = false, two_replies_wait = false;
  bool run_after_recall = false, stale_frame_in_same_slot = false, stale_frame_in_other_slot = false;
};

walk walk_all(flaw which) {
  walk result;
  static_cast<walked<breach>&>(result) = model::walk_all<state>(protocol(which), [&](const state& from) {
    result.two_replies_wait |= from.alive && from.reply_end - from.sent == 2;
    result.slot_used_again |= from.in_slot[0].task > 2;
    if (from.where == at::claiming) {  // with a frame of a task that has been handed over again since
      for (const handover& each : from.in_slot) {
        if (each.task != from.doing.task || each.number == from.doing.number) continue;
        (each.slot == from.doing.slot ? result.stale_frame_in_same_slot : result.stale_frame_in_other_slot) = true;
      }
    }
    for (const handover& each : from.in_slot) {
      const auto& task = from.tasks[each.task];
      result.lost |= !from.alive && task.runs != 0 && !task.published;
      result.run_after_recall |= task.recalled && task.runs != 0;
      result.saw_stop |= task.saw_stop;
    }
    for (const auto& task : from.tasks) {
      result.left_to_second |= from.worker == 2 && from.recalls == 0 && task.taken_back && task.ended == 0;
    }
  });
  return result;
}

TEST(slot_protocol, keeps_every_promise_in_all_interleavings) {
  const walk all = walk_all(flaw::none);
  EXPECT_TRUE(all.breaches.empty()) << "breach number " << static_cast<int>(*all.breaches.begin());
  RecordProperty("states", std::to_string(all.states));
  // The walk is worth nothing if it did not get around.
  EXPECT_GT(all.states, 100'000u);
  EXPECT_TRUE(all.lost);
  EXPECT_TRUE(all.left_to_second);
  EXPECT_TRUE(all.saw_stop);
  EXPECT_TRUE(all.slot_used_again);
  EXPECT_TRUE(all.two_replies_wait);
  EXPECT_TRUE(all.run_after_recall);
  EXPECT_TRUE(all.stale_frame_in_same_slot);
  EXPECT_TRUE(all.stale_frame_in_other_slot);
}

struct wrong_way {
  const char* name;
  flaw what;
  std::set<breach> found;  ///< by these, and by no others
};

class slot_protocol_with : public ::testing::TestWithParam<wrong_way> {};

TEST_P(slot_protocol_with, is_found_out) {
  const walk all = walk_all(GetParam().what);
  EXPECT_EQ(all.breaches, GetParam().found) << [&] {
    std::string numbers;
    for (const breach each : all.breaches) numbers += ' ' + std::to_string(static_cast<int>(each));
    return "breaches:" + numbers;
  }();
}

const wrong_way wrong_ways[] = {
    {"a_claim_that_does_not_compare",
     flaw::claim_without_compare,
     {breach::runs_though_taken_back, breach::runs_with_stale_frame}},
    {"a_take_back_that_does_not_compare",
     flaw::take_back_without_compare,
     {breach::taken_back_though_started, breach::counts_as_waiting_though_started}},
    {"words_that_do_not_name_the_task",
     flaw::word_without_task,
     {breach::runs_though_taken_back, breach::runs_with_stale_frame}},
    // A task was taken back and handed to the same worker again. The frame of the first time, unread yet, claimed it,
    // with leases that somebody else had by then.
    {"words_that_name_the_task_only", flaw::word_with_task_only, {breach::runs_with_stale_frame}},
    {"stop_requests_that_do_not_name_the_task", flaw::stop_without_task, {breach::stopped_by_mistake}},
    {"tasks_marked_when_they_have_run",
     flaw::started_after_run,
     {breach::taken_back_though_started, breach::counts_as_waiting_though_started}},
    {"ends_published_before_the_bytes", flaw::end_before_bytes, {breach::reply_of_no_task}},
    {"ends_published_after_sending", flaw::end_after_send, {breach::reply_lost}},
    {"the_ring_read_before_the_socket", flaw::ring_before_socket, {breach::reply_of_no_task}},
    {"the_ring_not_read", flaw::ring_not_read, {breach::reply_lost}},
};

INSTANTIATE_TEST_SUITE_P(flaw, slot_protocol_with, ::testing::ValuesIn(wrong_ways),
                         [](const auto& instance) { return std::string(instance.param.name); });

}  // namespace
}  // namespace shmpool::model
