// Room: what is refused or held when too much is under way, and when it is let in.
#include "scheduler_fixture.hpp"

namespace shmpool::sched {
namespace {

class admission : public scheduler_test {
 protected:
  static task_spec heavy(std::uint64_t bytes) {
    task_spec out;
    out.bytes = bytes;
    return out;
  }
};

TEST_F(admission, submit_is_refused_while_there_are_too_many_tasks_or_bytes) {
  settings.max_pending = 2;
  settings.max_pending_bytes = 100;
  EXPECT_NE(submit("a", heavy(99)), 0U);
  EXPECT_NE(submit("b", heavy(1000)), 0U) << "the limit was not reached yet";
  EXPECT_EQ(submit("c", heavy(0)), 0U);
  actions();
  EXPECT_EQ(sched().count().bytes, 1099U);
  reply(1, "a");
  EXPECT_EQ(submit("c", heavy(0)), 0U) << "b has too many bytes";
  actions();
  reply(1, "b");
  EXPECT_NE(submit("c", heavy(0)), 0U);
}

TEST_F(admission, held_tasks_are_let_in_oldest_first_when_others_end) {
  settings.max_pending = 2;
  hold("a");
  hold("b");
  hold("c");
  hold("d");
  EXPECT_EQ(actions(), "admit a, admit b");
  submit_admitted("a");
  submit_admitted("b");
  EXPECT_EQ(actions(), "start W1, assign a W1");
  EXPECT_EQ(sched().count().held, 2U);
  reply(1, "a");
  EXPECT_EQ(actions(), "admit c, assign b W1");
}

TEST_F(admission, with_a_limit_of_bytes_one_is_let_in_after_the_other) {
  settings.max_pending_bytes = 100;
  hold("a");
  hold("b");
  hold("c");
  EXPECT_EQ(actions(), "admit a") << "nobody knows yet how much it brings";
  submit_admitted("a", heavy(60));
  EXPECT_EQ(actions(), "admit b, start W1, assign a W1");
  submit_admitted("b", heavy(60));
  EXPECT_EQ(actions(), "");
  reply(1, "a");
  EXPECT_EQ(actions(), "admit c, assign b W1");
}

TEST_F(admission, withdrawn_task_makes_room) {
  settings.max_pending = 1;
  hold("a");
  hold("b");
  EXPECT_EQ(actions(), "admit a");
  sched().withdraw(ids.at("a"), now);
  EXPECT_EQ(actions(), "admit b");
}

TEST_F(admission, held_task_is_cancelled_at_once_and_an_admitted_one_when_it_is_submitted) {
  settings.max_pending = 1;
  hold("a");
  hold("b");
  actions();
  cancel("b", cancel_kind::total);
  EXPECT_EQ(actions(), "b cancelled");
  cancel("a", cancel_kind::total);
  EXPECT_EQ(actions(), "");
  submit_admitted("a");
  EXPECT_EQ(actions(), "a cancelled");
}

TEST_F(admission, shutdown_waits_for_what_is_held) {
  settings.max_pending = 1;
  hold("a");
  hold("b");
  actions();
  sched().shutdown(now);
  EXPECT_EQ(hold("late"), 0U);
  submit_admitted("a");
  actions();
  reply(1, "a");
  EXPECT_EQ(actions(), "admit b");
  submit_admitted("b");
  actions();
  reply(1, "b");
  EXPECT_EQ(actions(), "retire W1");
}

TEST_F(admission, stop_ends_held_tasks_and_waits_for_admitted_ones) {
  settings.max_pending = 1;
  hold("a");
  hold("b");
  actions();
  sched().stop(now);
  EXPECT_EQ(actions(), "b pool_stopped");
  submit_admitted("a");
  EXPECT_EQ(actions(), "a pool_stopped, drained");
}

}  // namespace
}  // namespace shmpool::sched
