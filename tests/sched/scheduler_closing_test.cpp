// shutdown(), stop() and break_pool(): what is left to do, and that `drained` comes once.
#include "scheduler_fixture.hpp"

namespace shmpool::sched {
namespace {

using scheduler_closing = scheduler_test;

TEST_F(scheduler_closing, shutdown_of_an_unused_pool_drains_at_once) {
  sched().shutdown(now);
  EXPECT_EQ(actions(), "drained");
}

TEST_F(scheduler_closing, shutdown_lets_tasks_end_then_retires_then_drains) {
  settings.max_workers = 2;
  bring_up(2);
  submit("a");
  submit("b");
  submit("c");
  actions();
  sched().shutdown(now);
  EXPECT_EQ(actions(), "");
  EXPECT_EQ(submit("too late"), 0U);
  reply(1, "b");
  EXPECT_EQ(actions(), "assign c W1");
  reply(1, "c");
  EXPECT_EQ(actions(), "");
  reply(2, "a");
  EXPECT_EQ(actions(), "retire W1, retire W2");
  die(1);
  EXPECT_EQ(actions(), "");
  die(2);
  EXPECT_EQ(actions(), "drained");
  EXPECT_EQ(sched().count().deaths, 0U);
}

TEST_F(scheduler_closing, shutdown_retires_workers_that_are_still_starting) {
  submit("a");
  actions();
  cancel("a", cancel_kind::total);
  sched().shutdown(now);
  EXPECT_EQ(actions(), "a cancelled, retire W1");
  started(1);
  EXPECT_EQ(actions(), "");
  die(1);
  EXPECT_EQ(actions(), "drained");
}

TEST_F(scheduler_closing, failed_start_counts_as_exited) {
  submit("a");
  actions();
  cancel("a", cancel_kind::total);
  sched().shutdown(now);
  actions();
  sched().worker_start_failed(1, now);
  EXPECT_EQ(actions(), "drained");
}

TEST_F(scheduler_closing, death_during_shutdown_starts_another_worker_for_what_is_left) {
  submit("a");
  submit("b");
  actions();
  run("a");
  sched().shutdown(now);
  die(1, "a");
  EXPECT_EQ(actions(), "a worker_lost W1, start W2, assign b W2");
  reply(2, "b");
  EXPECT_EQ(actions(), "retire W2");
  die(2);
  EXPECT_EQ(actions(), "drained");
}

TEST_F(scheduler_closing, stop_ends_every_task_in_the_order_of_submits_and_kills) {
  settings.max_workers = 2;
  bring_up(2);
  for (const char* name : {"a", "b", "c", "d", "e"}) submit(name);
  actions();
  EXPECT_TRUE(reply(2, "a"));
  actions();
  sched().stop(now);
  EXPECT_EQ(actions(), "b pool_stopped, c pool_stopped, d pool_stopped, e pool_stopped, kill W1, kill W2");
  die(1, "b");
  die(2);
  EXPECT_EQ(actions(), "drained");
  EXPECT_EQ(sched().count().deaths, 0U);
}

TEST_F(scheduler_closing, stop_of_an_unused_pool_drains_at_once) {
  sched().stop(now);
  EXPECT_EQ(actions(), "drained");
}

TEST_F(scheduler_closing, stop_leaves_nothing_of_what_was_about_to_be_done_to_tasks) {
  submit("a");
  submit("b");
  sched().stop(now);
  EXPECT_EQ(actions(), "start W1, a pool_stopped, b pool_stopped, kill W1");
  EXPECT_FALSE(sched().next_deadline());
  sched().worker_start_failed(1, now);
  EXPECT_EQ(actions(), "drained");
}

TEST_F(scheduler_closing, stop_after_shutdown_kills_what_was_retiring) {
  bring_up(1);
  sched().shutdown(now);
  EXPECT_EQ(actions(), "retire W1");
  sched().stop(now);
  EXPECT_EQ(actions(), "kill W1");
  die(1);
  EXPECT_EQ(actions(), "drained");
}

TEST_F(scheduler_closing, repeated_calls_are_harmless) {
  bring_up(1);
  for (int i = 0; i < 2; ++i) sched().shutdown(now);
  EXPECT_EQ(actions(), "retire W1");
  for (int i = 0; i < 2; ++i) sched().stop(now);
  sched().shutdown(now);
  EXPECT_EQ(actions(), "kill W1");
  die(1);
  EXPECT_EQ(actions(), "drained");
  sched().stop(now);
  sched().shutdown(now);
  sched().break_pool(now);
  sched().tick(now);
  EXPECT_EQ(actions(), "");
}

TEST_F(scheduler_closing, broken_pool_fails_everything_and_drains_only_when_it_is_closed) {
  bring_up(1);
  submit("a");
  submit("b");
  actions();
  sched().break_pool(now);
  EXPECT_TRUE(sched().broken());
  EXPECT_EQ(actions(), "a pool_broken, b pool_broken, kill W1");
  EXPECT_EQ(submit("c"), 0U);
  die(1);
  EXPECT_EQ(actions(), "");
  sched().shutdown(now);
  EXPECT_EQ(actions(), "drained");
}

TEST_F(scheduler_closing, broken_pool_that_is_stopped_drains_when_its_workers_are_dead) {
  bring_up(1);
  sched().break_pool(now);
  sched().stop(now);
  EXPECT_EQ(actions(), "kill W1");
  die(1);
  EXPECT_EQ(actions(), "drained");
}

}  // namespace
}  // namespace shmpool::sched
