// Who is there: workers that are kept, replaced after so many tasks or when they have outgrown their memory, and that
// leave.
#include "scheduler_fixture.hpp"

namespace shmpool::sched {
namespace {

using staffing = scheduler_test;

TEST_F(staffing, minimum_of_workers_is_started_without_a_task_and_lasts) {
  settings.max_workers = 3;
  settings.min_workers = 2;
  sched().tick(now);
  action next;
  ASSERT_TRUE(sched().next_action(next));
  EXPECT_EQ(next.what, action::kind::start_worker);
  EXPECT_TRUE(next.lasting);
  ASSERT_TRUE(sched().next_action(next));
  EXPECT_TRUE(next.lasting);
  EXPECT_FALSE(sched().next_action(next));
  submit("a");
  submit("b");
  EXPECT_EQ(actions(), "assign a W1, assign b W2");
  submit("c");
  ASSERT_TRUE(sched().next_action(next));
  EXPECT_EQ(next.what, action::kind::start_worker);
  EXPECT_FALSE(next.lasting);
}

TEST_F(staffing, death_of_one_of_the_minimum_is_made_good_at_once) {
  settings.max_workers = 2;
  settings.min_workers = 1;
  sched().tick(now);
  actions();
  started(1);
  die(1);
  EXPECT_EQ(actions(), "start W2");
}

TEST_F(staffing, worker_leaves_after_exactly_its_number_of_tasks_and_its_replacement_is_there_before) {
  settings.max_tasks_per_worker = 2;
  submit("a");
  submit("b");
  EXPECT_EQ(actions(), "start W1, assign a W1");
  started(1);
  run("a");
  reply(1, "a");
  EXPECT_EQ(actions(), "assign b W1, start W2");
  started(2);
  submit("c");
  EXPECT_EQ(actions(), "") << "one worker may run tasks, and the first one still does";
  reply(1, "b");
  EXPECT_EQ(actions(), "assign c W2, retire W1");
  die(1);
  EXPECT_EQ(actions(), "");
  EXPECT_EQ(sched().count().deaths, 0U);
}

TEST_F(staffing, task_that_was_taken_back_does_not_count) {
  settings.max_tasks_per_worker = 1;
  submit("a");
  actions();
  started(1);
  cancel("a", cancel_kind::total);
  submit("b");
  EXPECT_EQ(actions(), "a cancelled, assign b W1");
}

// A worker that had had all its tasks was struck off the list of those that can share, and stayed off it when one was
// taken back.
TEST_F(staffing, idle_worker_takes_what_waits_at_one_from_which_a_task_was_taken_back) {
  settings.max_workers = 2;
  settings.max_tasks_per_worker = 3;
  for (const char* name : {"a", "b", "c", "d", "e", "f"}) submit(name, quick());
  EXPECT_EQ(
      actions(),
      "start W1, assign a W1, start W2, assign b W2, assign c W1, assign d W2, assign e W1, start W3, assign f W2");
  for (const worker_id worker : {1U, 2U, 3U}) started(worker);
  actions();
  run("a");
  for (const char* name : {"b", "d", "f"}) reply(2, name);
  die(2);
  actions();
  cancel("e", cancel_kind::total);
  EXPECT_EQ(actions(), "e cancelled, assign c W3");
}

TEST_F(staffing, short_tasks_are_handed_over_in_batches_up_to_the_limit_only) {
  settings.max_tasks_per_worker = 3;
  bring_up(1);
  for (const char* name : {"a", "b", "c"}) submit(name, quick());
  EXPECT_EQ(actions(), "assign a W1, assign b W1, start W2");
}

TEST_F(staffing, idle_worker_takes_the_place_of_one_that_is_spent) {
  settings.max_workers = 2;
  settings.max_tasks_per_worker = 2;
  bring_up(2);
  submit("a");
  EXPECT_EQ(actions(), "assign a W2") << "W1 is idle, so nobody has to be started yet";
  reply(2, "a");
  EXPECT_EQ(actions(), "retire W2");
}

TEST_F(staffing, outgrown_worker_keeps_what_it_runs_and_gives_back_the_rest) {
  bring_up(1);
  submit("a", quick());
  submit("b", quick());
  EXPECT_EQ(actions(), "assign a W1, assign b W1");
  run("a");
  sched().recycle(1, now);
  EXPECT_EQ(actions(), "start W2");
  started(2);
  EXPECT_EQ(actions(), "");
  reply(1, "a");
  EXPECT_EQ(actions(), "assign b W2, retire W1");
}

TEST_F(staffing, leaving_worker_gives_back_what_it_was_sent_too_late) {
  bring_up(1);
  submit("a");
  EXPECT_EQ(actions(), "assign a W1");
  sched().worker_leaves(1, now);
  EXPECT_EQ(actions(), "start W2, assign a W2");
  die(1);
  EXPECT_EQ(actions(), "");
  EXPECT_EQ(sched().count().deaths, 0U);
}

TEST_F(staffing, worker_that_does_not_leave_is_killed) {
  bring_up(1);
  sched().shutdown(now);
  EXPECT_EQ(actions(), "retire W1");
  ASSERT_TRUE(sched().next_deadline());
  EXPECT_EQ(*sched().next_deadline(), now + settings.leave_grace);
  pass(settings.leave_grace);
  EXPECT_EQ(actions(), "kill W1");
  EXPECT_FALSE(sched().next_deadline());
  die(1);
  EXPECT_EQ(actions(), "drained");
}

TEST_F(staffing, workers_that_leave_slowly_do_not_pile_up) {
  settings.max_tasks_per_worker = 1;
  submit("a");
  submit("b");
  submit("c");
  EXPECT_EQ(actions(), "start W1, assign a W1, start W2");
  started(1);
  reply(1, "a");
  EXPECT_EQ(actions(), "assign b W2, retire W1");
  started(2);
  reply(2, "b");
  EXPECT_EQ(actions(), "retire W2") << "twice as many as may work are there";
  die(1);
  EXPECT_EQ(actions(), "start W3, assign c W3");
}

}  // namespace
}  // namespace shmpool::sched
