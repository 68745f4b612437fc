// Cancellation and timeouts: the table of the docs, and when a worker is killed for them.
#include "scheduler_fixture.hpp"

namespace shmpool::sched {
namespace {

using scheduler_cancel = scheduler_test;

TEST_F(scheduler_cancel, queued_task_is_removed_by_every_kind) {
  submit("running");
  actions();
  for (const cancel_kind kind : {cancel_kind::total, cancel_kind::partial, cancel_kind::terminal}) {
    submit("a");
    cancel("a", kind);
    EXPECT_EQ(actions(), "a cancelled");
  }
  EXPECT_EQ(sched().count().queued, 0U);
}

TEST_F(scheduler_cancel, task_that_was_handed_over_but_not_started_is_taken_back_by_every_kind) {
  for (const cancel_kind kind : {cancel_kind::total, cancel_kind::partial, cancel_kind::terminal}) {
    submit("running", quick());
    submit("a", quick());
    run("running");
    actions();
    cancel("a", kind);
    EXPECT_EQ(actions(), "a cancelled");
    EXPECT_TRUE(slots.was_asked_for(1, ids["a"]));
    reply(1, "running");
  }
}

TEST_F(scheduler_cancel, total_leaves_a_running_task_alone) {
  submit("a");
  actions();
  run("a");
  cancel("a", cancel_kind::total);
  EXPECT_EQ(actions(), "");
  EXPECT_FALSE(sched().next_deadline());
  EXPECT_TRUE(reply(1, "a"));
}

TEST_F(scheduler_cancel, partial_asks_a_running_task_to_stop_once_and_never_kills) {
  submit("a");
  actions();
  run("a");
  cancel("a", cancel_kind::partial);
  EXPECT_EQ(actions(), "stop a W1");
  cancel("a", cancel_kind::partial);
  pass(seconds{100});
  EXPECT_EQ(actions(), "");
  EXPECT_TRUE(reply(1, "a"));
}

TEST_F(scheduler_cancel, terminal_asks_then_kills_and_completes_when_the_worker_is_dead) {
  submit("a");
  actions();
  run("a");
  cancel("a", cancel_kind::terminal);
  EXPECT_EQ(actions(), "stop a W1");
  EXPECT_EQ(sched().next_deadline(), now + settings.cancel_grace);
  pass(settings.cancel_grace - milliseconds{1});
  EXPECT_EQ(actions(), "");
  pass(milliseconds{1});
  EXPECT_EQ(actions(), "kill W1");
  EXPECT_FALSE(sched().next_deadline());
  die(1, "a");
  EXPECT_EQ(actions(), "a cancelled");
  EXPECT_EQ(sched().count().deaths, 0U);
}

TEST_F(scheduler_cancel, result_that_comes_within_the_grace_counts_and_spares_the_worker) {
  submit("a");
  submit("b");
  actions();
  run("a");
  cancel("a", cancel_kind::terminal);
  EXPECT_EQ(actions(), "stop a W1");
  EXPECT_TRUE(reply(1, "a"));
  EXPECT_EQ(actions(), "assign b W1");
  pass(seconds{10});
  EXPECT_EQ(actions(), "");
}

TEST_F(scheduler_cancel, result_that_comes_after_the_kill_counts_too) {
  submit("a");
  actions();
  run("a");
  cancel("a", cancel_kind::terminal);
  pass(settings.cancel_grace);
  EXPECT_EQ(actions(), "stop a W1, kill W1");
  EXPECT_TRUE(reply(1, "a"));
  die(1);
  EXPECT_EQ(actions(), "");
}

TEST_F(scheduler_cancel, stronger_kind_upgrades_and_weaker_does_not_weaken) {
  submit("a");
  actions();
  run("a");
  cancel("a", cancel_kind::partial);
  cancel("a", cancel_kind::terminal);
  EXPECT_EQ(actions(), "stop a W1");
  const auto kill_at = sched().next_deadline();
  now += milliseconds{100};
  cancel("a", cancel_kind::partial);
  cancel("a", cancel_kind::total);
  cancel("a", cancel_kind::terminal);
  EXPECT_EQ(actions(), "");
  EXPECT_EQ(sched().next_deadline(), kill_at);
  pass(settings.cancel_grace - milliseconds{100});
  EXPECT_EQ(actions(), "kill W1");
}

TEST_F(scheduler_cancel, no_grace_kills_at_once) {
  settings.cancel_grace = duration::zero();
  submit("a");
  actions();
  run("a");
  cancel("a", cancel_kind::terminal);
  EXPECT_EQ(actions(), "stop a W1, kill W1");
  die(1, "a");
  EXPECT_EQ(actions(), "a cancelled");
}

TEST_F(scheduler_cancel, nothing_is_asked_of_a_worker_that_died_in_the_same_batch) {
  submit("a");
  actions();
  run("a");
  cancel("a", cancel_kind::terminal);
  pass(settings.cancel_grace);
  die(1, "a");
  EXPECT_EQ(actions(), "a cancelled");
}

TEST_F(scheduler_cancel, what_waits_behind_a_doomed_task_is_taken_elsewhere_at_once) {
  settings.max_workers = 2;
  bring_up(2);
  submit("a", quick());
  submit("b", quick());
  submit("c", quick());
  submit("d", quick());
  EXPECT_EQ(actions(), "assign a W2, assign b W1, assign c W1, assign d W2");
  run("a");
  run("b");
  cancel("a", cancel_kind::terminal);
  EXPECT_EQ(actions(), "stop a W2, assign d W1");
}

TEST_F(scheduler_cancel, worker_that_may_be_killed_gets_no_new_tasks) {
  settings.max_workers = 1;
  submit("a", quick());
  actions();
  run("a");
  cancel("a", cancel_kind::terminal);
  submit("b", quick());
  EXPECT_EQ(actions(), "stop a W1");
  pass(settings.cancel_grace);
  EXPECT_EQ(actions(), "kill W1");
  die(1, "a");
  EXPECT_EQ(actions(), "a cancelled, start W2, assign b W2");
}

TEST_F(scheduler_cancel, innocent_task_at_a_killed_worker_runs_again_if_it_had_not_started) {
  submit("a", quick());
  submit("b", quick());
  actions();
  run("a");
  run("b");  // too late to be taken back, yet in the end the worker says that it had not begun
  cancel("a", cancel_kind::terminal);
  pass(settings.cancel_grace);
  pass(settings.result_grace);
  EXPECT_EQ(actions(), "stop a W1, kill W1");
  die(1, "a");
  EXPECT_EQ(actions(), "a cancelled, start W2, assign b W2");
}

TEST_F(scheduler_cancel, doomed_task_that_dies_with_its_worker_is_cancelled_and_not_tried_again) {
  submit("a", repeatable(3));
  actions();
  run("a");
  cancel("a", cancel_kind::terminal);
  actions();
  die(1, "a");
  EXPECT_EQ(actions(), "a cancelled");
  EXPECT_EQ(sched().count().deaths, 1U) << "it was not killed: the grace had not passed";
}

TEST_F(scheduler_cancel, task_asked_to_stop_is_not_tried_again) {
  submit("a", repeatable(3));
  actions();
  run("a");
  cancel("a", cancel_kind::partial);
  die(1, "a");
  EXPECT_EQ(actions(), "a cancelled");
}

TEST_F(scheduler_cancel, cancelling_at_a_killed_worker_asks_nothing_of_it) {
  submit("a", quick());
  submit("b", quick());
  actions();
  run("a");
  run("b");
  cancel("a", cancel_kind::terminal);
  pass(settings.cancel_grace);
  pass(settings.result_grace);
  EXPECT_EQ(actions(), "stop a W1, kill W1");
  cancel("b", cancel_kind::terminal);
  EXPECT_EQ(actions(), "");
  EXPECT_FALSE(sched().next_deadline());
  die(1, "b");
  EXPECT_EQ(actions(), "a cancelled, b cancelled");
}

TEST_F(scheduler_cancel, timeout_counts_from_the_start_of_the_run) {
  submit("a", limited(milliseconds{100}));
  actions();
  EXPECT_EQ(sched().next_deadline(), now + milliseconds{100});
  pass(milliseconds{100});  // not started: look again
  EXPECT_EQ(actions(), "");
  now += milliseconds{40};
  run("a");
  pass(milliseconds{60});
  EXPECT_EQ(actions(), "");
  EXPECT_EQ(sched().next_deadline(), now + milliseconds{40});
  pass(milliseconds{40});
  EXPECT_EQ(actions(), "stop a W1");
  pass(settings.cancel_grace);
  EXPECT_EQ(actions(), "kill W1");
  die(1, "a");
  EXPECT_EQ(actions(), "a deadline_exceeded");
}

TEST_F(scheduler_cancel, early_tick_does_nothing_and_late_tick_still_acts) {
  submit("a", limited(milliseconds{100}));
  actions();
  run("a");
  pass(milliseconds{99});
  EXPECT_EQ(actions(), "");
  pass(seconds{50});
  EXPECT_EQ(actions(), "stop a W1");
  pass(seconds{50});
  EXPECT_EQ(actions(), "kill W1");
}

TEST_F(scheduler_cancel, first_reason_names_the_failure) {
  settings.max_workers = 2;
  submit("deadline first", limited(milliseconds{100}));
  submit("cancelled first", limited(milliseconds{200}));
  actions();
  run("deadline first");
  run("cancelled first");
  pass(milliseconds{100});
  cancel("deadline first", cancel_kind::terminal);
  cancel("cancelled first", cancel_kind::terminal);
  pass(seconds{10});
  actions();
  die(1, "deadline first");
  die(2, "cancelled first");
  EXPECT_EQ(actions(), "deadline first deadline_exceeded, cancelled first cancelled");
}

TEST_F(scheduler_cancel, overdue_task_that_was_asked_to_stop_already_is_not_asked_again) {
  submit("a", limited(milliseconds{100}));
  actions();
  run("a");
  cancel("a", cancel_kind::partial);
  EXPECT_EQ(actions(), "stop a W1");
  pass(milliseconds{100});
  EXPECT_EQ(actions(), "");
  pass(settings.cancel_grace);
  EXPECT_EQ(actions(), "kill W1");
}

TEST_F(scheduler_cancel, overdue_task_is_not_tried_again) {
  task_spec task = limited(milliseconds{100});
  task.attempts = 5;
  submit("a", task);
  actions();
  run("a");
  pass(milliseconds{100});
  pass(settings.cancel_grace);
  EXPECT_EQ(actions(), "stop a W1, kill W1");
  die(1, "a");
  EXPECT_EQ(actions(), "a deadline_exceeded");
}

TEST_F(scheduler_cancel, second_attempt_has_the_whole_timeout_again) {
  task_spec task = limited(milliseconds{100});
  task.attempts = 2;
  submit("a", task);
  actions();
  run("a");
  now += milliseconds{90};
  die(1, "a");
  EXPECT_EQ(actions(), "start W2, assign a W2");
  run("a");
  pass(milliseconds{90});
  EXPECT_EQ(actions(), "");
  pass(milliseconds{10});
  EXPECT_EQ(actions(), "stop a W2");
}

TEST_F(scheduler_cancel, start_in_the_future_does_not_put_a_deadline_off_for_ever) {
  submit("a", limited(milliseconds{100}));
  actions();
  slots.start(ids["a"], now + seconds{1'000'000});
  pass(milliseconds{100});
  EXPECT_EQ(sched().next_deadline(), now + milliseconds{100});
}

TEST_F(scheduler_cancel, endless_timeout_does_not_overflow) {
  submit("a", limited(duration::max()));
  actions();
  run("a");
  pass(seconds{100});
  EXPECT_EQ(actions(), "");
  EXPECT_GT(sched().next_deadline(), now + seconds{1'000'000});
}

TEST_F(scheduler_cancel, deadline_goes_with_the_task) {
  submit("a", limited(milliseconds{100}));
  actions();
  EXPECT_TRUE(sched().next_deadline());
  reply(1, "a");
  EXPECT_FALSE(sched().next_deadline());
}

// The result of a was on its way when its grace ended. Its worker was killed, and b with it, which nobody had
// cancelled.
TEST_F(scheduler_cancel, nobody_is_killed_for_a_task_that_must_be_done) {
  bring_up(1);
  submit("a", quick());
  submit("b", quick());
  EXPECT_EQ(actions(), "assign a W1, assign b W1");
  run("a");
  run("b");
  cancel("a", cancel_kind::terminal);
  EXPECT_EQ(actions(), "stop a W1");
  pass(settings.cancel_grace);
  EXPECT_EQ(actions(), "");
  EXPECT_TRUE(reply(1, "a"));
  pass(settings.result_grace);
  EXPECT_EQ(actions(), "");
  EXPECT_TRUE(reply(1, "b"));
}

TEST_F(scheduler_cancel, worker_that_begins_one_task_in_the_middle_of_another_is_killed_in_the_end) {
  settings.cancel_grace = {};
  bring_up(1);
  submit("a", quick());
  submit("b", quick());
  actions();
  run("a");
  run("b");
  cancel("a", cancel_kind::terminal);
  EXPECT_EQ(actions(), "stop a W1");
  ASSERT_TRUE(sched().next_deadline());
  pass(settings.result_grace);
  EXPECT_EQ(actions(), "kill W1");
}

}  // namespace
}  // namespace shmpool::sched
