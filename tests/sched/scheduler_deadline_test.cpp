// Deadlines, which count from the submit, and graces of single tasks: wherever a task is when its deadline comes, it
// ends.
#include "scheduler_fixture.hpp"

namespace shmpool::sched {
namespace {

using scheduler_deadline = scheduler_test;

task_spec by(time_point when, task_spec task = slow()) {
  task.deadline = when;
  return task;
}

TEST_F(scheduler_deadline, ends_a_task_that_is_queued) {
  submit("running");
  actions();
  submit("a", by(now + seconds{1}));
  EXPECT_EQ(sched().next_deadline(), now + seconds{1});
  pass(milliseconds{999});
  EXPECT_EQ(actions(), "");
  pass(milliseconds{1});
  EXPECT_EQ(actions(), "a deadline_exceeded");
  EXPECT_FALSE(sched().next_deadline());
}

TEST_F(scheduler_deadline, ends_a_task_that_waits_for_room) {
  settings.max_pending = 1;
  submit("running");
  actions();
  ids["a"] = sched().hold(handle_of("a"), now + seconds{1}, now);
  EXPECT_EQ(sched().next_deadline(), now + seconds{1});
  pass(seconds{1});
  EXPECT_EQ(sched().count().held, 0U);
}

TEST_F(scheduler_deadline, that_comes_between_admission_and_submit_ends_the_task_at_its_submit) {
  ids["a"] = sched().hold(handle_of("a"), now + seconds{1}, now);
  EXPECT_EQ(actions(), "admit a");
  pass(seconds{1});
  EXPECT_EQ(actions(), "");
  task_spec late = by(now);
  late.handle = handle_of("a");
  sched().submit(ids["a"], late, now);
  EXPECT_EQ(actions(), "a deadline_exceeded");
  EXPECT_FALSE(sched().next_deadline());
}

TEST_F(scheduler_deadline, that_has_passed_starts_nothing) {
  submit("a", by(now));
  EXPECT_EQ(actions(), "a deadline_exceeded");
  EXPECT_EQ(sched().count().workers, 0U);
}

TEST_F(scheduler_deadline, takes_a_task_back_that_was_handed_over_and_not_begun) {
  submit("running", quick());
  submit("a", by(now + seconds{1}, quick()));
  run("running");
  actions();
  pass(seconds{1});
  EXPECT_EQ(actions(), "a deadline_exceeded");
  EXPECT_TRUE(slots.was_asked_for(1, ids["a"]));
}

TEST_F(scheduler_deadline, stops_a_task_that_runs_and_kills_after_its_own_grace) {
  task_spec task = by(now + seconds{1});
  task.cancel_grace = milliseconds{3};
  submit("a", task);
  actions();
  run("a");
  pass(seconds{1});
  EXPECT_EQ(actions(), "stop a W1");
  EXPECT_EQ(sched().next_deadline(), now + milliseconds{3});
  pass(milliseconds{3});
  EXPECT_EQ(actions(), "kill W1");
  die(1, "a");
  EXPECT_EQ(actions(), "a deadline_exceeded");
}

TEST_F(scheduler_deadline, a_grace_of_nothing_kills_at_once) {
  task_spec task = by(now + seconds{1});
  task.cancel_grace = duration::zero();
  submit("a", task);
  actions();
  run("a");
  pass(seconds{1});
  EXPECT_EQ(actions(), "stop a W1, kill W1");
}

TEST_F(scheduler_deadline, the_earlier_of_timeout_and_deadline_counts) {
  task_spec task = by(now + seconds{2});
  task.timeout = seconds{5};
  submit("a", task);
  task.timeout = seconds{1};
  settings.max_workers = 2;
  actions();
  run("a");
  EXPECT_EQ(sched().next_deadline(), now + seconds{2});
  pass(seconds{2});
  EXPECT_EQ(actions(), "stop a W1");
}

TEST_F(scheduler_deadline, spans_all_attempts) {
  submit("a", by(now + seconds{1}, repeatable(3)));
  actions();
  run("a");
  pass(milliseconds{600});
  die(1, "a");
  EXPECT_EQ(actions(), "start W2, assign a W2");
  run("a");
  pass(milliseconds{399});
  EXPECT_EQ(actions(), "");
  pass(milliseconds{1});
  EXPECT_EQ(actions(), "stop a W2");
  die(2, "a");
  EXPECT_EQ(actions(), "a deadline_exceeded");
}

TEST_F(scheduler_deadline, is_forgotten_with_its_task) {
  submit("a", by(now + seconds{1}));
  actions();
  run("a");
  EXPECT_TRUE(reply(1, "a"));
  EXPECT_FALSE(sched().next_deadline());
  submit("running");
  actions();
  submit("b", by(now + seconds{1}));
  cancel("b", cancel_kind::total);
  EXPECT_EQ(actions(), "b cancelled");
  EXPECT_FALSE(sched().next_deadline());
}

}  // namespace
}  // namespace shmpool::sched
