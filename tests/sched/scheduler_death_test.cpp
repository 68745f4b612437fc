// Workers that die or cannot be started: blame, further attempts, pauses, and giving up.
#include "scheduler_fixture.hpp"

#include <gmock/gmock.h>

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
  EXPECT_EQ(actions(), "start W3, assign a W3");
  up(3);
  EXPECT_EQ(actions(), "start W4, assign b W4");
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
  for (worker_id worker = 1; worker <= 3; ++worker) {
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

// Twenty requests that crashed broke the pool for good, and from the sixth on starting paused for up to two seconds.
TEST_F(scheduler_death, tasks_that_crash_delay_nobody_by_more_than_a_replacement_however_many_they_are) {
  for (worker_id worker = 1; worker <= 1000; ++worker) {
    submit("crash");
    submit("healthy");
    actions();
    run("crash");
    die(worker, "crash");
    const std::string next = "W" + std::to_string(++worker);
    EXPECT_EQ(actions(),
              "crash worker_lost W" + std::to_string(worker - 1) + ", start " + next + ", assign healthy " + next);
    run("healthy");
    die(worker, "healthy");
  }
  EXPECT_FALSE(sched().next_deadline());
  EXPECT_EQ(sched().count().health, pool_health::healthy);
  EXPECT_EQ(sched().count().deaths, 1000U);
}

TEST_F(scheduler_death, healthy_task_does_not_wait_behind_a_queue_of_those_that_crash) {
  for (int i = 0; i != 100; ++i) submit("crash " + std::to_string(i), of_kind(7));
  submit("healthy", of_kind(8));
  actions();
  worker_id worker = 1;
  for (int i = 0; i != 3; ++i) {  // until it is known
    const std::string name = "crash " + std::to_string(i);
    run(name);
    die(worker++, name);
    if (i != 2) actions();
  }
  const std::string name = "W" + std::to_string(worker);
  EXPECT_EQ(actions(), "crash 2 worker_lost W3, start W4, assign crash 3 W4") << "one has its turn";
  run("crash 3");
  die(4, "crash 3");
  EXPECT_EQ(actions(), "crash 3 worker_lost W4, start W5, assign healthy W5");
  up(5);
  submit("next");
  EXPECT_TRUE(reply(5, "healthy"));
  EXPECT_EQ(actions(), "assign next W5");
  submit("one more");
  now += settings.patience_aside;
  EXPECT_TRUE(reply(5, "next"));
  EXPECT_EQ(actions(), "assign crash 4 W5") << "they do not wait for ever";
  EXPECT_EQ(sched().count().queued, 96U);
}

TEST_F(scheduler_death, tasks_that_crash_and_are_put_aside_can_be_cancelled_and_end_with_the_pool) {
  for (int i = 0; i != 10; ++i) submit("crash " + std::to_string(i), of_kind(7));
  submit("healthy", of_kind(8));
  actions();
  for (worker_id worker = 1; worker <= 4; ++worker) {
    const std::string name = "crash " + std::to_string(worker - 1);
    run(name);
    die(worker, name);
    actions();
  }
  cancel("crash 5", cancel_kind::total);
  EXPECT_EQ(actions(), "crash 5 cancelled");
  sched().break_pool(now);
  EXPECT_EQ(actions(),
            "crash 4 pool_broken, crash 6 pool_broken, crash 7 pool_broken, crash 8 pool_broken, crash 9 pool_broken, "
            "healthy pool_broken, kill W5");
}

// What a task has left behind (a thread, a damaged heap) may end the worker when the task has long been answered.
TEST_F(scheduler_death, worker_that_dies_idle_after_a_task_says_nothing_of_the_pool) {
  settings.broken_limit = 1;
  for (worker_id worker = 1; worker <= 100; ++worker) {
    submit("a");
    EXPECT_EQ(actions(), "start W" + std::to_string(worker) + ", assign a W" + std::to_string(worker));
    up(worker);
    reply(worker, "a");
    die(worker);
  }
  EXPECT_EQ(sched().count().health, pool_health::healthy);
}

TEST_F(scheduler_death, task_with_which_workers_die_before_they_begin_it_is_lost_and_not_the_pool) {
  settings.broken_limit = 2;
  settings.unbegun_limit = 3;
  submit("a");
  submit("b");
  actions();
  for (worker_id worker = 1; worker <= 2; ++worker) {
    up(worker);
    die(worker);
    EXPECT_EQ(actions(), "start W" + std::to_string(worker + 1) + ", assign a W" + std::to_string(worker + 1));
  }
  up(3);
  die(3);
  EXPECT_EQ(actions(), "a worker_lost W3 unbegun, start W4, assign b W4");
}

// Of 24 idle workers that one signal had ended, five were handed the same task before the first of these deaths was
// known: it was lost, although no worker had died of it.
TEST_F(scheduler_death, task_is_not_blamed_for_workers_that_were_there_when_the_first_one_died) {
  settings.max_workers = settings.min_workers = 4;
  settings.unbegun_limit = 2;
  submit("a");
  EXPECT_EQ(actions(), "start W1, assign a W1, start W2, start W3, start W4");
  for (worker_id worker = 1; worker <= 4; ++worker) up(worker);
  EXPECT_EQ(actions(), "");
  std::string said;
  for (const worker_id worker : {1u, 4u, 3u, 2u}) {
    die(worker);
    said += actions() + ", ";
  }
  EXPECT_THAT(said, ::testing::HasSubstr("assign a W4"));
  EXPECT_THAT(said, ::testing::HasSubstr("assign a W3"));
  EXPECT_THAT(said, ::testing::HasSubstr("assign a W2"));
  EXPECT_THAT(said, ::testing::Not(::testing::HasSubstr("lost")));
  EXPECT_EQ(sched().count().assigned, 1u) << "it is with a new worker";
}

TEST_F(scheduler_death, signal_that_ends_all_idle_workers_is_one_event_and_they_are_replaced_at_once) {
  settings.max_workers = settings.min_workers = 24;
  sched().tick(now);
  actions();
  for (worker_id worker = 1; worker <= 24; ++worker) up(worker);
  for (worker_id worker = 1; worker <= 24; ++worker) {
    die(worker);
    EXPECT_EQ(actions(), "start W" + std::to_string(worker + 24));
  }
  EXPECT_EQ(sched().count().health, pool_health::healthy);
  EXPECT_EQ(sched().count().deaths, 24U);
}

TEST_F(scheduler_death, workers_that_do_not_come_up_pause_the_starting_of_others) {
  settings.crash_limit = 2;
  submit("a");
  actions();
  die(1);
  die(2);
  actions();
  die(3);
  EXPECT_EQ(actions(), "");
  EXPECT_EQ(sched().next_deadline(), now + settings.backoff);
  EXPECT_EQ(sched().count().health, pool_health::failing);
  EXPECT_EQ(sched().count().next_start, now + settings.backoff);
  pass(settings.backoff - milliseconds{1});
  EXPECT_EQ(actions(), "");
  pass(milliseconds{1});
  EXPECT_EQ(actions(), "start W4, assign a W4");
  EXPECT_FALSE(sched().next_deadline());
  up(4);
  EXPECT_EQ(sched().count().health, pool_health::healthy);
}

TEST_F(scheduler_death, on_probation_one_worker_is_started_at_a_time) {
  settings.max_workers = 4;
  settings.crash_limit = 0;
  for (const char* name : {"a", "b", "c"}) submit(name);
  actions();
  for (worker_id worker = 1; worker <= 3; ++worker) die(worker);
  EXPECT_EQ(actions(), "");
  pass(settings.backoff);
  EXPECT_EQ(actions(), "start W4, assign a W4");
  up(4);
  EXPECT_EQ(actions(), "start W5, assign b W5, start W6, assign c W6");
}

TEST_F(scheduler_death, pause_that_nothing_waits_for_is_no_deadline_and_still_holds) {
  settings.crash_limit = 0;
  settings.min_workers = 0;
  submit("a");
  actions();
  up(1);
  cancel("a", cancel_kind::total);
  actions();
  die(1);
  EXPECT_FALSE(sched().next_deadline());
  submit("b");
  EXPECT_EQ(actions(), "");
  EXPECT_EQ(sched().next_deadline(), now + settings.backoff);
  now += settings.backoff;
  submit("c");
  EXPECT_EQ(actions(), "start W2, assign b W2") << "no tick is needed once the pause is over";
}

TEST_F(scheduler_death, pool_of_which_no_worker_comes_up_is_broken_until_one_does) {
  submit("a");
  submit("b");
  actions();
  worker_id worker = 0;
  while (sched().count().health != pool_health::broken) {
    die(++worker);
    const std::string said = actions();
    if (sched().count().health == pool_health::broken) {
      EXPECT_EQ(said, "a pool_broken, b pool_broken");
    }
    if (const auto resume = sched().next_deadline()) pass(*resume - now);
    actions();
  }
  EXPECT_EQ(worker, settings.broken_limit);
  EXPECT_FALSE(sched().broken()) << "not for good";
  EXPECT_FALSE(sched().next_deadline()) << "nothing is to be done until somebody asks";
  EXPECT_TRUE(sched().refuses(now));
  EXPECT_EQ(submit("c"), 0U);
  EXPECT_EQ(hold("c"), 0U);

  now = sched().count().next_start.value();
  EXPECT_FALSE(sched().refuses(now));
  submit("d");
  submit("e");
  EXPECT_EQ(actions(), "start W8, assign d W8");
  EXPECT_FALSE(sched().refuses(now)) << "what comes meanwhile waits for the same answer";
  die(8);
  EXPECT_EQ(actions(), "d pool_broken, e pool_broken");
  EXPECT_TRUE(sched().refuses(now));

  now = sched().count().next_start.value();
  submit("f");
  EXPECT_EQ(actions(), "start W9, assign f W9");
  up(9);
  EXPECT_EQ(sched().count().health, pool_health::healthy);
  EXPECT_TRUE(reply(9, "f"));
}

TEST_F(scheduler_death, pool_with_a_minimum_that_recovers_gets_it_again) {
  settings.max_workers = settings.min_workers = 2;
  settings.crash_limit = 0;
  settings.broken_limit = 1;
  sched().tick(now);
  EXPECT_EQ(actions(), "start W1, start W2");
  die(1);
  EXPECT_EQ(actions(), "kill W2");
  EXPECT_FALSE(sched().next_deadline());
  die(2);
  now = sched().count().next_start.value();
  sched().tick(now);
  EXPECT_EQ(actions(), "") << "an idle pool does not try by itself";
  submit("a");
  EXPECT_EQ(actions(), "start W3, assign a W3");
  up(3);
  EXPECT_EQ(actions(), "start W4");
}

TEST_F(scheduler_death, pool_is_not_broken_while_one_worker_is_up) {
  settings.max_workers = 2;
  settings.crash_limit = 0;
  settings.broken_limit = 2;
  submit("a");
  submit("b");
  actions();
  up(1);
  run("a");
  for (worker_id worker = 2; worker <= 10; ++worker) {
    die(worker);
    EXPECT_EQ(actions(), "");
    pass(seconds{2});
    EXPECT_EQ(actions(), "start W" + std::to_string(worker + 1) + ", assign b W" + std::to_string(worker + 1));
  }
  EXPECT_TRUE(reply(1, "a"));
  EXPECT_EQ(sched().count().health, pool_health::failing);
}

TEST_F(scheduler_death, worker_that_says_that_it_cannot_work_breaks_a_pool_that_has_no_other) {
  submit("a");
  submit("b");
  actions();
  sched().worker_unfit(1, now);
  EXPECT_EQ(actions(), "a pool_broken, b pool_broken");
  die(1);
  EXPECT_EQ(sched().count().deaths, 0U);
  EXPECT_EQ(sched().count().health, pool_health::broken);
  EXPECT_EQ(sched().count().next_start, now + settings.backoff);
}

TEST_F(scheduler_death, kind_in_quarantine_is_ended_where_it_waits) {
  settings.quarantine_after = 1;
  submit("a", of_kind(7));
  submit("b", of_kind(7));
  submit("c", of_kind(8));
  actions();
  run("a");
  die(1, "a");
  EXPECT_EQ(actions(), "a worker_lost W1, b quarantined, start W2, assign c W2");
  EXPECT_FALSE(sched().admits(7, now));
  EXPECT_TRUE(sched().admits(8, now));
  EXPECT_EQ(sched().count().quarantined_kinds, 1U);
}

TEST_F(scheduler_death, kind_in_quarantine_has_no_further_attempts) {
  settings.max_workers = 2;
  settings.quarantine_after = 1;
  for (const char* name : {"a", "b"}) {
    task_spec again = repeatable(5);
    again.kind = 7;
    submit(name, again);
  }
  actions();
  run("a");
  run("b");
  die(1, "a");
  EXPECT_EQ(actions(), "a worker_lost W1");
  die(2, "b");
  EXPECT_EQ(actions(), "b worker_lost W2");
}

TEST_F(scheduler_death, nothing_is_handed_over_behind_a_kind_that_kills_often) {
  submit("first", of_kind(7));
  actions();
  up(1);
  reply(1, "first");
  worker_id worker = 1;
  for (int i = 0; i != 3; ++i) {
    submit("crash", of_kind(7));
    actions();
    run("crash");
    die(worker++, "crash");
    actions();
  }
  submit("crash", of_kind(7));
  submit("healthy", quick());
  const std::string name = "W" + std::to_string(worker);
  EXPECT_EQ(actions(), "start " + name + ", assign crash " + name);
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

// A submit behind a line that does not move looks no further; but where no worker is left, it ends the pause.
TEST_F(scheduler_death, submit_ends_the_pause_after_a_failed_start_if_no_worker_is_left) {
  settings.max_workers = 2;
  submit("a");
  submit("b");
  actions();
  up(1);
  run("a");
  sched().worker_start_failed(2, now);
  die(1, "a");
  EXPECT_EQ(actions(), "a worker_lost W1") << "b waits for the end of the pause";
  submit("c");
  EXPECT_EQ(actions(), "start W3, assign b W3, start W4, assign c W4");
}

// It was tried again at once, and again, with the engine's lock held, for as long as the system could start none.
TEST_F(scheduler_death, minimum_of_workers_that_cannot_be_started_is_tried_again_after_a_pause) {
  settings.min_workers = 1;
  sched().tick(now);
  EXPECT_EQ(actions(), "start W1");
  sched().worker_start_failed(1, now);
  EXPECT_EQ(actions(), "");
  EXPECT_EQ(sched().count().health, pool_health::failing);
  EXPECT_EQ(sched().next_deadline(), now + settings.backoff);
  pass(settings.backoff);
  EXPECT_EQ(actions(), "start W2");
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
