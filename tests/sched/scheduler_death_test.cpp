// Workers that die or cannot be started: blame, further attempts, pauses, and giving up.
#include "scheduler_fixture.hpp"

namespace shmpool::sched {
namespace {

using scheduler_death = scheduler_test;

TEST_F(scheduler_death, started_task_is_lost_and_the_others_are_handed_out_again_in_order) {
  for (const char* name : {"a", "b", "c"}) submit(name, quick());
  submit("long");
  actions();
  run("a");
  die(1, "a");
  EXPECT_EQ(actions(), "a worker_lost W1, start W2, assign b W2, assign c W2");
  EXPECT_EQ(sched().count().queued, 1U);
  EXPECT_EQ(sched().count().deaths, 1U);
}

TEST_F(scheduler_death, what_comes_back_goes_ahead_of_what_was_submitted_later) {
  settings.max_workers = 2;
  settings.crash_limit = 0;  // so that both are dead before another is started
  for (const char* name : {"a", "b", "c", "d"}) submit(name);
  actions();
  die(1);
  die(2);
  pass(seconds{2});
  EXPECT_EQ(actions(), "start W3, assign a W3, start W4, assign b W4");
}

TEST_F(scheduler_death, idle_worker_that_dies_is_not_replaced_before_there_is_work) {
  bring_up(1);
  die(1);
  EXPECT_EQ(actions(), "");
  submit("a");
  EXPECT_EQ(actions(), "start W2, assign a W2");
}

TEST_F(scheduler_death, task_runs_again_while_attempts_are_left_and_is_quarantined_then) {
  submit("a", repeatable(2));
  submit("b");
  actions();
  run("a");
  die(1, "a");
  EXPECT_EQ(actions(), "start W2, assign a W2");
  run("a");
  die(2, "a");
  EXPECT_EQ(actions(), "a worker_lost W2, start W3, assign b W3");
}

TEST_F(scheduler_death, task_that_had_not_started_loses_no_attempt) {
  submit("a");
  actions();
  for (worker_id worker = 1; worker <= 4; ++worker) {
    die(worker);
    EXPECT_EQ(actions(), "start W" + std::to_string(worker + 1) + ", assign a W" + std::to_string(worker + 1));
  }
}

TEST_F(scheduler_death, started_task_that_makes_no_sense_is_taken_for_none) {
  settings.max_workers = 2;
  submit("a");
  submit("b");
  actions();
  sched().worker_exited(1, ids["b"], now);
  EXPECT_EQ(actions(), "start W3, assign a W3");
  sched().worker_exited(3, 0xdead'beef'dead'beef, now);
  EXPECT_EQ(actions(), "start W4, assign a W4");
  EXPECT_TRUE(reply(2, "b"));
}

TEST_F(scheduler_death, death_in_the_batch_of_the_assignment_withdraws_it) {
  bring_up(1);
  submit("a");
  die(1, "a");
  EXPECT_EQ(actions(), "start W2, assign a W2");
}

TEST_F(scheduler_death, too_many_deaths_pause_the_starting_of_workers) {
  settings.crash_limit = 2;
  submit("a");
  actions();
  die(1);
  die(2);
  actions();
  die(3);
  EXPECT_EQ(actions(), "");
  EXPECT_EQ(sched().next_deadline(), now + settings.backoff);
  pass(settings.backoff - milliseconds{1});
  EXPECT_EQ(actions(), "");
  pass(milliseconds{1});
  EXPECT_EQ(actions(), "start W4, assign a W4");
  EXPECT_FALSE(sched().next_deadline());
}

TEST_F(scheduler_death, pause_that_nothing_waits_for_is_no_deadline_and_still_holds) {
  settings.crash_limit = 0;
  bring_up(1);
  die(1);
  EXPECT_FALSE(sched().next_deadline());
  submit("a");
  EXPECT_EQ(actions(), "");
  EXPECT_EQ(sched().next_deadline(), now + settings.backoff);
  now += settings.backoff;
  submit("b");
  EXPECT_EQ(actions(), "start W2, assign a W2") << "no tick is needed once the pause is over";
}

TEST_F(scheduler_death, pause_doubles_up_to_two_seconds_while_deaths_go_on) {
  settings.crash_limit = 0;
  settings.broken_limit = 100;
  submit("a");
  worker_id worker = 1;
  for (const int expected : {100, 200, 400, 800, 1600, 2000, 2000}) {
    actions();
    die(worker++);
    ASSERT_EQ(sched().next_deadline(), now + milliseconds{expected});
    pass(milliseconds{expected});
  }
}

TEST_F(scheduler_death, pause_is_short_again_after_a_quiet_window) {
  settings.crash_limit = 1;
  submit("a");
  actions();
  die(1);
  actions();
  die(2);
  pass(settings.backoff);
  actions();
  die(3);
  EXPECT_EQ(sched().next_deadline(), now + 2 * settings.backoff);
  pass(2 * settings.backoff);
  actions();
  pass(settings.crash_window + seconds{1});
  die(4);
  EXPECT_EQ(actions(), "start W5, assign a W5");
  die(5);
  EXPECT_EQ(sched().next_deadline(), now + settings.backoff);
}

TEST_F(scheduler_death, pool_breaks_when_workers_die_and_nothing_completes) {
  settings.broken_limit = 3;
  submit("a");
  submit("b");
  actions();
  die(1);
  die(2);
  actions();
  EXPECT_FALSE(sched().broken());
  die(3);
  EXPECT_TRUE(sched().broken());
  EXPECT_EQ(actions(), "a pool_broken, b pool_broken");
  EXPECT_EQ(submit("c"), 0U);
}

TEST_F(scheduler_death, pool_does_not_break_while_tasks_complete) {
  settings.broken_limit = 3;
  settings.crash_limit = 1000;
  for (worker_id worker = 1; worker <= 30; ++worker) {
    if (worker % 2 == 1) submit("a");
    actions();
    if (worker % 2 == 0) {
      EXPECT_TRUE(reply(worker, "a"));
    }
    die(worker);
    ASSERT_FALSE(sched().broken());
  }
}

TEST_F(scheduler_death, pool_of_one_whose_worker_cannot_live_breaks_with_the_default_limits) {
  submit("a");
  actions();
  for (worker_id worker = 1; worker <= 20; ++worker) {
    ASSERT_FALSE(sched().broken());
    die(worker);
    if (const auto resume = sched().next_deadline()) pass(*resume - now);
    actions();
  }
  EXPECT_TRUE(sched().broken());
}

TEST_F(scheduler_death, deaths_that_were_asked_for_do_not_count) {
  settings.crash_limit = 0;
  settings.broken_limit = 1;
  settings.cancel_grace = duration::zero();
  for (worker_id worker = 1; worker <= 5; ++worker) {
    submit("a");
    EXPECT_EQ(actions(), "start W" + std::to_string(worker) + ", assign a W" + std::to_string(worker));
    run("a");
    cancel("a", cancel_kind::terminal);
    actions();
    die(worker, "a");
    EXPECT_EQ(actions(), "a cancelled");
  }
  EXPECT_EQ(sched().count().deaths, 0U);
}

TEST_F(scheduler_death, failed_start_with_nobody_alive_fails_what_is_queued_and_the_next_submit_tries_again) {
  submit("a");
  submit("b");
  actions();
  sched().worker_start_failed(1, now);
  EXPECT_EQ(actions(), "a worker_start_failed, b worker_start_failed");
  submit("c");
  EXPECT_EQ(actions(), "start W2, assign c W2");
}

TEST_F(scheduler_death, failed_start_with_others_alive_is_tried_again_after_a_pause_that_doubles) {
  settings.max_workers = 2;
  submit("a");
  submit("b");
  actions();
  started(1);
  sched().worker_start_failed(2, now);
  EXPECT_EQ(actions(), "");
  EXPECT_EQ(sched().next_deadline(), now + settings.backoff);
  pass(settings.backoff);
  EXPECT_EQ(actions(), "start W3, assign b W3");
  sched().worker_start_failed(3, now);
  EXPECT_EQ(sched().next_deadline(), now + 2 * settings.backoff);
  pass(2 * settings.backoff);
  EXPECT_EQ(actions(), "start W4, assign b W4");
  EXPECT_EQ(sched().count().deaths, 0U);
}

TEST_F(scheduler_death, task_of_a_failed_start_goes_to_a_worker_that_has_room) {
  settings.max_workers = 2;
  submit("a", quick());
  submit("b", quick());
  actions();
  started(1);
  run("a");
  sched().worker_start_failed(2, now);
  EXPECT_EQ(actions(), "assign b W1");
  EXPECT_EQ(sched().next_deadline(), now + settings.backoff) << "b waits behind a: another worker would help";
}

}  // namespace
}  // namespace shmpool::sched
