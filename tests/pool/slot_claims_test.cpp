// What the scheduler learns from the slots of a worker, which a worker may have written anything into.
#include "pool/slot_claims.hpp"

#include "pool/fake_operation.hpp"
#include "pool/task_entry.hpp"
#include "pool/task_ledger.hpp"
#include "pool/worker_channel.hpp"
#include "process/clock.hpp"
#include "wire/control_page.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <optional>

namespace shmpool::pool {
namespace {

using namespace std::chrono_literals;

/// A scheduler that has assigned one task to one worker, and the worker's slots.
class slot_claims_of_a_task : public ::testing::Test {
 protected:
  slot_claims_of_a_task() {
    claims.ask_about(scheduler);
    sched::task_spec spec;
    spec.handle = task.handle;
    task.id = scheduler.submit(spec, now);
    sched::action next;
    while (scheduler.next_action(next)) {
      if (next.what == sched::action::kind::start_worker) worker.emplace(next.worker);
    }
    task.on = &*worker;
    task.slot = worker->take_slot(task).value();
    task.assigned = now;
  }
  ~slot_claims_of_a_task() override { ledger.close(task); }

  wire::slot& slot() { return worker->slot(task.slot); }
  void start(sched::time_point told) {
    const auto ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(told.time_since_epoch()).count());
    ASSERT_TRUE(wire::claim(slot(), worker->handover_in(task.slot), ns));
  }
  std::optional<sched::time_point> started() { return claims.start_time(worker->id, task.id, monotonic_clock::now()); }

  const sched::time_point now = monotonic_clock::now();
  task_ledger ledger;
  slot_claims claims{ledger};
  sched::scheduler scheduler{sched::options{}, claims};
  std::optional<worker_channel> worker;
  fake_operation op;
  task_entry& task = ledger.open(op);
};

TEST_F(slot_claims_of_a_task, take_back_what_has_not_begun) {
  EXPECT_FALSE(started());
  EXPECT_TRUE(claims.take_back(worker->id, task.id));
  EXPECT_EQ(task.on, nullptr);
  EXPECT_FALSE(worker->has_tasks());
}

TEST_F(slot_claims_of_a_task, leave_what_has_begun) {
  start(now);
  EXPECT_FALSE(claims.take_back(worker->id, task.id));
  EXPECT_EQ(task.on, &*worker);
  EXPECT_EQ(started(), now);
}

TEST_F(slot_claims_of_a_task, know_nothing_of_other_tasks_and_workers) {
  EXPECT_FALSE(claims.take_back(worker->id, task.id + 1));
  EXPECT_FALSE(claims.take_back(worker->id + 1, task.id));
  EXPECT_FALSE(claims.start_time(worker->id + 1, task.id, now));
}

TEST_F(slot_claims_of_a_task, believe_no_start_before_the_task_was_handed_over) {
  start(now - 1h);
  EXPECT_EQ(started(), now);
}

// A time that is always now would put a deadline off for ever.
TEST_F(slot_claims_of_a_task, believe_no_start_after_it_was_first_seen) {
  start(now + 1h);
  const auto first = started();
  ASSERT_TRUE(first);
  EXPECT_LE(*first, monotonic_clock::now());
  EXPECT_EQ(started(), first);
}

TEST_F(slot_claims_of_a_task, take_nonsense_for_a_task_that_has_not_begun_and_cannot_be_had_back) {
  slot().word.store(~std::uint64_t{0});
  EXPECT_FALSE(started());
  EXPECT_FALSE(claims.take_back(worker->id, task.id));
}

}  // namespace
}  // namespace shmpool::pool
