// Which worker gets which task: starting, choosing, looking ahead and sharing out.
#include "scheduler_fixture.hpp"

namespace shmpool::sched {
namespace {

using scheduler_assignment = scheduler_test;

TEST_F(scheduler_assignment, first_task_starts_a_worker_and_goes_to_it_at_once) {
  EXPECT_NE(submit("a"), 0U);
  EXPECT_EQ(actions(), "start W1, assign a W1");
}

TEST_F(scheduler_assignment, no_more_than_max_workers_are_started) {
  settings.max_workers = 2;
  submit("a");
  submit("b");
  submit("c");
  EXPECT_EQ(actions(), "start W1, assign a W1, start W2, assign b W2");
  EXPECT_EQ(sched().count().queued, 1U);
}

TEST_F(scheduler_assignment, most_recently_idle_worker_is_taken_first) {
  settings.max_workers = 3;
  bring_up(3);
  submit("a");
  submit("b");
  EXPECT_EQ(actions(), "assign a W3, assign b W2");
  reply(3, "a");
  submit("c");
  EXPECT_EQ(actions(), "assign c W3");
}

TEST_F(scheduler_assignment, idle_worker_that_maps_the_segments_is_preferred) {
  settings.max_workers = 3;
  bring_up(3);
  task_spec task = slow();
  task.warm_workers = std::uint64_t{1} << 1;
  submit("a", task);
  EXPECT_EQ(actions(), "assign a W1");
}

TEST_F(scheduler_assignment, warmth_at_a_busy_worker_does_not_make_a_task_wait) {
  settings.max_workers = 2;
  bring_up(2);
  task_spec task = quick();
  task.warm_workers = std::uint64_t{1} << 2;
  submit("a", task);
  submit("b", task);
  EXPECT_EQ(actions(), "assign a W2, assign b W1");
}

TEST_F(scheduler_assignment, worker_that_is_still_starting_but_lost_its_task_takes_the_next_one) {
  settings.max_workers = 2;
  submit("a");
  actions();
  cancel("a", cancel_kind::total);
  submit("b");
  EXPECT_EQ(actions(), "a cancelled, assign b W1");
}

TEST_F(scheduler_assignment, ready_worker_is_preferred_to_one_that_is_starting) {
  settings.max_workers = 2;
  submit("a");
  submit("b");
  actions();
  started(1);
  reply(1, "a");  // takes b from W2, which is not there yet
  EXPECT_EQ(actions(), "assign b W1");
  reply(1, "b");
  submit("c");
  EXPECT_EQ(actions(), "assign c W1");
}

TEST_F(scheduler_assignment, short_tasks_are_handed_over_behind_a_short_one_up_to_the_lookahead) {
  settings.lookahead = microseconds{20};
  for (const char* name : {"a", "b", "c", "d"}) submit(name, quick());
  EXPECT_EQ(actions(), "start W1, assign a W1, assign b W1, assign c W1");
  reply(1, "a");
  EXPECT_EQ(actions(), "assign d W1");
}

TEST_F(scheduler_assignment, window_bounds_the_tasks_at_one_worker) {
  settings.window = 2;
  for (const char* name : {"a", "b", "c"}) submit(name, quick(duration{0}));
  EXPECT_EQ(actions(), "start W1, assign a W1, assign b W1");
}

TEST_F(scheduler_assignment, nothing_is_handed_over_behind_a_long_or_unknown_task) {
  settings.max_workers = 2;
  submit("unknown", slow());
  submit("long", quick(seconds{1}));
  submit("short", quick());
  EXPECT_EQ(actions(), "start W1, assign unknown W1, start W2, assign long W2");
}

TEST_F(scheduler_assignment, long_or_unknown_task_is_not_handed_over_behind_a_short_one) {
  submit("short", quick());
  submit("unknown", slow());
  EXPECT_EQ(actions(), "start W1, assign short W1");
  reply(1, "short");
  EXPECT_EQ(actions(), "assign unknown W1");
}

TEST_F(scheduler_assignment, least_loaded_busy_worker_gets_the_task) {
  settings.max_workers = 2;
  bring_up(2);
  submit("a", quick(microseconds{50}));
  submit("b", quick(microseconds{10}));
  EXPECT_EQ(actions(), "assign a W2, assign b W1");
  submit("c", quick(microseconds{30}));  // behind the running ones both have nothing: the first
  submit("d", quick(microseconds{10}));
  submit("e", quick(microseconds{10}));
  submit("f", quick(microseconds{10}));
  EXPECT_EQ(actions(), "assign c W1, assign d W2, assign e W2, assign f W2");
}

TEST_F(scheduler_assignment, order_of_submits_is_the_order_of_assignment) {
  submit("a");
  submit("b");
  submit("c", quick());
  actions();
  reply(1, "a");
  EXPECT_EQ(actions(), "assign b W1");
  reply(1, "b");
  EXPECT_EQ(actions(), "assign c W1");
}

TEST_F(scheduler_assignment, worker_that_becomes_idle_takes_half_of_what_waits_behind_others) {
  settings.max_workers = 2;
  bring_up(2);
  for (const char* name : {"x", "y", "a", "b", "c", "d", "e"}) submit(name, quick());
  EXPECT_EQ(actions(), "assign x W2, assign y W1, assign a W1, assign b W2, assign c W1, assign d W2, assign e W1");
  for (const char* name : {"x", "b", "d"}) {
    EXPECT_EQ(actions(), "");
    run(name);
    EXPECT_TRUE(reply(2, name));
  }
  // W1 runs y, which takes longer than expected; a, c and e wait behind it.
  EXPECT_EQ(actions(), "assign c W2, assign e W2");
  EXPECT_FALSE(slots.was_asked_for(1, ids["a"]));
}

TEST_F(scheduler_assignment, tasks_that_were_started_meanwhile_stay_where_they_are) {
  settings.max_workers = 2;
  bring_up(2);
  for (const char* name : {"x", "y", "a", "b", "c", "d", "e"}) submit(name, quick());
  EXPECT_EQ(actions(), "assign x W2, assign y W1, assign a W1, assign b W2, assign c W1, assign d W2, assign e W1");
  for (const char* name : {"y", "a", "c"}) run(name);
  for (const char* name : {"x", "b", "d"}) EXPECT_TRUE(reply(2, name));
  EXPECT_EQ(actions(), "assign e W2");
  EXPECT_FALSE(slots.was_asked_for(1, ids["a"])) << "a worker runs its tasks in order: what is ahead of c has begun";
}

// An idle worker asked again for each of the tasks that another had begun, at every event until their results came.
TEST_F(scheduler_assignment, worker_that_has_started_everything_is_not_asked_again) {
  settings.max_workers = 2;
  bring_up(2);
  for (const char* name : {"x", "y", "a"}) submit(name, quick());
  EXPECT_EQ(actions(), "assign x W2, assign y W1, assign a W1");
  for (const char* name : {"y", "a"}) run(name);
  EXPECT_TRUE(reply(2, "x"));
  EXPECT_EQ(actions(), "");
  EXPECT_TRUE(slots.was_asked_for(1, ids["a"]));
  slots.forget(ids["a"]);  // so that it would be given away
  pass(microseconds{1});
  EXPECT_EQ(actions(), "");
}

// With a queue there is always a task for a worker that has room, and what waited behind a long one was overtaken by
// all that came after it.
TEST_F(scheduler_assignment, what_waits_behind_a_task_that_takes_too_long_goes_to_others_in_its_order) {
  settings.max_workers = 2;
  settings.window = 3;
  bring_up(2);
  for (const char* name : {"x", "y", "a", "b", "c", "d", "e", "f"}) submit(name, quick());
  EXPECT_EQ(actions(), "assign x W2, assign y W1, assign a W1, assign b W2, assign c W1, assign d W2");
  run("y");
  now += settings.patience / 2;
  EXPECT_TRUE(reply(2, "x"));
  EXPECT_EQ(actions(), "assign e W2") << "it may be short yet";
  now += settings.patience / 2;
  EXPECT_TRUE(reply(2, "b"));
  EXPECT_EQ(actions(), "assign a W2");
  EXPECT_TRUE(reply(2, "d"));
  EXPECT_EQ(actions(), "assign c W2");
  EXPECT_TRUE(reply(2, "e"));
  EXPECT_EQ(actions(), "assign f W2");
}

TEST_F(scheduler_assignment, what_has_been_started_behind_a_task_stays_where_it_is) {
  settings.max_workers = 2;
  settings.window = 3;
  bring_up(2);
  for (const char* name : {"x", "y", "a", "b", "c", "d", "e"}) submit(name, quick());
  actions();
  for (const char* name : {"y", "a"}) run(name);
  now += settings.patience;
  EXPECT_TRUE(reply(2, "x"));
  EXPECT_EQ(actions(), "assign c W2");
}

TEST_F(scheduler_assignment, nothing_more_is_handed_over_behind_a_task_that_takes_too_long_until_its_worker_replies) {
  bring_up(1);
  submit("a", quick());
  submit("b", quick());
  EXPECT_EQ(actions(), "assign a W1, assign b W1");
  run("a");
  now += settings.patience;
  submit("c", quick());
  EXPECT_EQ(actions(), "");
  EXPECT_FALSE(slots.was_asked_for(1, ids["b"])) << "nobody else could run it";
  EXPECT_TRUE(reply(1, "a"));
  EXPECT_EQ(actions(), "assign c W1");
}

TEST_F(scheduler_assignment, what_waits_behind_a_task_that_takes_too_long_stays_until_somebody_has_room) {
  settings.max_workers = 2;
  bring_up(2);
  for (const char* name : {"x", "y", "a", "b"}) submit(name, quick());
  EXPECT_EQ(actions(), "assign x W2, assign y W1, assign a W1, assign b W2");
  for (const char* name : {"x", "y"}) run(name);
  pass(settings.patience);
  submit("c", quick());
  EXPECT_EQ(actions(), "");
  EXPECT_FALSE(slots.was_asked_for(1, ids["a"]));
  EXPECT_TRUE(reply(2, "x"));
  EXPECT_EQ(actions(), "assign a W2, assign c W2");
}

TEST_F(scheduler_assignment, worker_that_takes_long_to_start_keeps_its_first_task_only) {
  settings.max_workers = 2;
  settings.window = 2;
  for (const char* name : {"a", "b", "c", "d", "e"}) submit(name, quick());
  EXPECT_EQ(actions(), "start W1, assign a W1, start W2, assign b W2, assign c W1, assign d W2");
  started(1);
  run("a");
  now += settings.patience;
  EXPECT_TRUE(reply(1, "a"));
  EXPECT_EQ(actions(), "assign d W1");
  started(2);
  EXPECT_EQ(actions(), "assign e W2");
}

// The fullest worker had started all of its tasks, and an idle one gave up there although a third had some to give.
TEST_F(scheduler_assignment, idle_worker_looks_further_if_the_fullest_has_started_everything) {
  settings.max_workers = 3;
  bring_up(3);
  for (const char* name : {"x", "y", "z", "a", "b", "c", "d", "e"}) submit(name, quick());
  EXPECT_EQ(actions(),
            "assign x W3, assign y W2, assign z W1, assign a W1, assign b W2, assign c W3, assign d W1, "
            "assign e W2");
  for (const char* name : {"z", "a", "d", "y"}) run(name);
  for (const char* name : {"x", "c"}) EXPECT_TRUE(reply(3, name));
  EXPECT_EQ(actions(), "assign e W3");
}

TEST_F(scheduler_assignment, idle_worker_takes_a_task_from_one_that_is_still_starting) {
  settings.max_workers = 2;
  submit("a");
  submit("b");
  actions();
  started(2);
  reply(2, "b");
  EXPECT_EQ(actions(), "assign a W2");
}

TEST_F(scheduler_assignment, worker_is_started_for_tasks_that_wait_behind_others_after_a_death) {
  settings.max_workers = 2;
  bring_up(2);
  for (const char* name : {"a", "b", "c", "d"}) submit(name, quick());
  EXPECT_EQ(actions(), "assign a W2, assign b W1, assign c W1, assign d W2");
  run("a");
  run("b");
  reply(1, "b");
  run("c");
  die(1, "c");
  EXPECT_EQ(actions(), "c worker_lost W1, start W3");
  started(3);
  EXPECT_EQ(actions(), "assign d W3");
}

TEST_F(scheduler_assignment, submit_is_refused_when_max_pending_tasks_wait_or_run) {
  settings.max_pending = 2;
  submit("a");
  submit("b");
  EXPECT_EQ(submit("c"), 0U);
  EXPECT_EQ(actions(), "start W1, assign a W1");
  reply(1, "a");
  EXPECT_NE(submit("c"), 0U);
}

TEST_F(scheduler_assignment, results_may_come_in_any_order) {
  for (const char* name : {"a", "b", "c"}) submit(name, quick());
  actions();
  EXPECT_TRUE(reply(1, "c"));
  EXPECT_TRUE(reply(1, "a"));
  EXPECT_TRUE(reply(1, "b"));
  EXPECT_EQ(sched().count().assigned, 0U);
  EXPECT_EQ(sched().count().idle_workers, 1U);
}

TEST_F(scheduler_assignment, result_for_a_task_that_the_worker_does_not_have_is_refused) {
  settings.max_workers = 2;
  submit("a");
  submit("b");
  submit("queued");
  EXPECT_FALSE(sched().replied(1, ids["a"], duration{}, now)) << "the assignment has not been fetched yet";
  actions();
  EXPECT_FALSE(sched().replied(2, ids["a"], duration{}, now));
  EXPECT_FALSE(sched().replied(1, ids["queued"], duration{}, now));
  EXPECT_FALSE(sched().replied(1, 0, duration{}, now));
  EXPECT_FALSE(sched().replied(1, 0xffff'ffff'ffff'ffff, duration{}, now));
  EXPECT_TRUE(reply(1, "a"));
  EXPECT_FALSE(sched().replied(1, ids["a"], duration{}, now)) << "twice";
  EXPECT_EQ(actions(), "assign queued W1");
  EXPECT_EQ(sched().count().assigned, 2U);
}

TEST_F(scheduler_assignment, submit_behind_others_that_wait_is_told_from_one_that_changes_something) {
  settings.max_workers = 1;
  settings.window = 1;
  for (const char* name : {"a", "first"}) {
    submit(name);
    EXPECT_FALSE(sched().only_queued()) << name;
    actions();
  }
  submit("second");
  EXPECT_TRUE(sched().only_queued());
  EXPECT_EQ(actions(), "");
  task_spec overdue = slow();
  overdue.deadline = now;
  submit("overdue", overdue);
  EXPECT_FALSE(sched().only_queued());
  EXPECT_EQ(actions(), "overdue deadline_exceeded");
  started(1);
  EXPECT_TRUE(reply(1, "a"));
  submit("third");
  EXPECT_FALSE(sched().only_queued()) << "a result is to be followed by a decision";
  EXPECT_EQ(actions(), "assign first W1");
}

TEST_F(scheduler_assignment, results_that_come_together_are_followed_by_one_decision) {
  settings.max_workers = 2;
  settings.window = 1;
  for (const char* name : {"a", "b", "first", "second"}) submit(name, quick());
  EXPECT_EQ(actions(), "start W1, assign a W1, start W2, assign b W2");
  for (const worker_id worker : {1U, 2U}) started(worker);
  EXPECT_TRUE(reply(1, "a"));
  EXPECT_TRUE(reply(2, "b"));
  EXPECT_EQ(actions(), "assign first W2, assign second W1") << "as W2 was idle last";
}

TEST_F(scheduler_assignment, handle_of_an_assigned_task_is_found) {
  submit("a");
  submit("b");
  actions();
  EXPECT_EQ(name_of(sched().assigned_handle(1, ids["a"])), "a");
  EXPECT_EQ(sched().assigned_handle(2, ids["a"]), no_task);
  EXPECT_EQ(sched().assigned_handle(1, ids["b"]), no_task);
}

TEST_F(scheduler_assignment, counts_say_what_there_is) {
  settings.max_workers = 2;
  bring_up(2);
  submit("a");
  EXPECT_EQ(sched().count().idle_workers, 1U);
  submit("b");
  submit("c");
  const counts now_there = sched().count();
  EXPECT_EQ(now_there.queued, 1U);
  EXPECT_EQ(now_there.assigned, 2U);
  EXPECT_EQ(now_there.workers, 2U);
  EXPECT_EQ(now_there.idle_workers, 0U);
  EXPECT_EQ(now_there.deaths, 0U);
}

TEST_F(scheduler_assignment, events_of_one_batch_leave_no_assignment_that_a_later_one_undid) {
  settings.max_workers = 2;
  submit("a");
  submit("b");
  cancel("a", cancel_kind::total);
  EXPECT_EQ(actions(), "start W1, start W2, assign b W2, a cancelled");
  EXPECT_FALSE(slots.was_asked_for(1, ids["a"])) << "the worker's slots know nothing of it";
}

TEST_F(scheduler_assignment, unknown_workers_and_tasks_are_ignored) {
  submit("a");
  actions();
  started(77);
  die(77, "a");
  sched().worker_start_failed(77, now);
  sched().cancel(0, cancel_kind::terminal, now);
  sched().cancel(123456789, cancel_kind::terminal, now);
  EXPECT_EQ(actions(), "");
  EXPECT_TRUE(reply(1, "a"));
}

/// All of them were submitted before the first had run; one by one they would be handed over for ever.
TEST_F(scheduler_test, tasks_that_came_before_their_kind_was_known_are_short_once_the_first_was) {
  settings.max_workers = 1;
  for (const char* name : {"a", "b", "c", "d"}) submit(name, of_kind(1));
  submit("other", of_kind(2));
  EXPECT_EQ(actions(), "start W1, assign a W1");
  started(1);
  EXPECT_TRUE(reply(1, "a", microseconds{5}));
  EXPECT_EQ(actions(), "assign b W1, assign c W1, assign d W1") << "and what is still unknown waits";
}

TEST_F(scheduler_test, tasks_of_a_kind_that_turned_out_long_wait_for_a_worker_of_their_own) {
  settings.max_workers = 1;
  for (const char* name : {"a", "b", "c"}) submit(name, of_kind(1));
  EXPECT_EQ(actions(), "start W1, assign a W1");
  started(1);
  EXPECT_TRUE(reply(1, "a", std::chrono::milliseconds{5}));
  EXPECT_EQ(actions(), "assign b W1");
}

}  // namespace
}  // namespace shmpool::sched
