// The tasks of a pool and what there is to tell the user, without a pool.
#include "pool/task_ledger.hpp"

#include "pool/fake_operation.hpp"
#include "pool/worker_channel.hpp"
#include "shm/shm_fixture.hpp"
#include "shm/store.hpp"

#include <shmpool/error.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace shmpool::pool {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// What has ended, in order.
std::vector<const detail::operation*> taken(task_ledger& ledger) {
  std::vector<detail::notice> notices;
  detail::completion_list ended = ledger.take_completed(notices);
  std::vector<const detail::operation*> all;
  while (const detail::operation* const op = ended.pop()) all.push_back(op);
  return all;
}

// ---- Keys.

TEST(task_ledger, knows_a_key_from_open_to_close) {
  task_ledger ledger;
  fake_operation op(7);
  EXPECT_EQ(ledger.find_key(7), std::nullopt);
  task_entry& opened = ledger.open(op);
  EXPECT_EQ(opened.op, &op);
  EXPECT_EQ(ledger.find_key(7), std::uint64_t{0}) << "the scheduler does not know it yet";
  ledger.known_as(opened, 31);
  EXPECT_EQ(opened.id, 31u);
  EXPECT_EQ(ledger.find_key(7), std::uint64_t{31});
  ledger.close(opened);
  EXPECT_EQ(ledger.find_key(7), std::nullopt);
  EXPECT_FALSE(ledger.any_completed()) << "its operation stays whose it is";
}

TEST(task_ledger, forgets_the_key_of_a_task_that_completes) {
  task_ledger ledger;
  fake_operation op(7), other(8);
  ledger.open(other);
  ledger.complete(ledger.open(op));
  EXPECT_EQ(ledger.find_key(7), std::nullopt);
  EXPECT_EQ(ledger.find_key(8), std::uint64_t{0});
  taken(ledger);
}

TEST(task_ledger, keeps_the_key_of_a_held_task_for_the_one_to_come) {
  task_ledger ledger;
  fake_operation held(7), submitted(7);
  task_entry& waiting = ledger.open(held);
  ledger.known_as(waiting, 31);
  EXPECT_EQ(&ledger.close_held(waiting), &held);
  EXPECT_EQ(ledger.find_key(7), std::uint64_t{31});
  task_entry& next = ledger.open(submitted);
  ledger.known_as(next, 32);
  EXPECT_EQ(ledger.find_key(7), std::uint64_t{32});
  ledger.close(next);
  EXPECT_EQ(ledger.find_key(7), std::nullopt);
}

TEST(task_ledger, forgets_the_key_of_a_held_task_for_which_none_comes) {
  task_ledger ledger;
  fake_operation held(7);
  ledger.close_held(ledger.open(held));
  ASSERT_TRUE(ledger.find_key(7));
  ledger.forget_key(7);
  EXPECT_FALSE(ledger.find_key(7));
}

TEST(task_ledger, finds_no_operation_that_has_no_key) {
  task_ledger ledger;
  fake_operation op;
  task_entry& opened = ledger.open(op);
  ledger.known_as(opened, 31);
  EXPECT_EQ(ledger.find_key(0), std::nullopt);
  ledger.close(opened);
}

// ---- Records.

class task_ledger_memory : public shm::shm_fixture {
 protected:
  shm::store_options nameless() {
    shm::store_options options;
    options.backing = backing::memfd;
    return options;
  }
  std::shared_ptr<shm::store> memory = open(nameless());
};

TEST_F(task_ledger_memory, gives_back_what_was_lent_when_a_task_ends) {
  task_ledger ledger;
  fake_operation op;
  const shm_handle lent = memory->allocate(4096, 8);
  const auto is_lent = [&] {
    if (!shm::begin_lend(shm::segment_of(lent), 0, 8, true)) return true;
    shm::end_lend(shm::segment_of(lent), 0, 8, true);
    return false;
  };
  for (const bool completes : {false, true}) {
    task_entry& opened = ledger.open(op);
    opened.arrays = lent_arrays({{lent, 0, 8, detail::access::write}});
    ASSERT_TRUE(is_lent());
    completes ? ledger.complete(opened) : ledger.close(opened);
    EXPECT_FALSE(is_lent());
    EXPECT_EQ(lent.use_count(), 1);
    taken(ledger);
  }
}

TEST_F(task_ledger_memory, takes_the_task_from_its_worker_when_it_ends) {
  worker_channel worker(1);
  task_ledger ledger;
  fake_operation op;
  task_entry& opened = ledger.open(op);
  const shm_handle leased = memory->allocate(4096, 8);
  opened.leases.push_back(leased);
  opened.on = &worker;
  opened.slot = worker.take_slot(opened).value();
  ASSERT_TRUE(worker.has_tasks());
  ledger.complete(opened);
  EXPECT_FALSE(worker.has_tasks());
  EXPECT_EQ(leased.use_count(), 1);
  taken(ledger);
}

TEST_F(task_ledger_memory, uses_a_record_again_as_if_it_were_new) {
  worker_channel worker(1);
  task_ledger ledger;
  fake_operation first(7), second;
  task_entry& opened = ledger.open(first);
  ledger.known_as(opened, 31);
  opened.arguments.resize(100);
  opened.arrays = lent_arrays({{memory->allocate(4096, 8), 0, 8, detail::access::read}});
  opened.leases.push_back(memory->allocate(4096, 8));
  opened.on = &worker;
  opened.slot = worker.take_slot(opened).value();
  ledger.close(opened);
  task_entry& again = ledger.open(second);
  ASSERT_EQ(&again, &opened);
  EXPECT_EQ(again.op, &second);
  EXPECT_EQ(again.id, 0u);
  EXPECT_TRUE(again.arguments.empty());
  EXPECT_TRUE(again.arrays.empty());
  EXPECT_TRUE(again.leases.empty());
  EXPECT_EQ(again.on, nullptr);
  ledger.close(again);
}

TEST(task_ledger, has_a_record_of_its_own_for_each_task_of_many) {
  task_ledger ledger;
  std::deque<fake_operation> all(200);
  std::vector<task_entry*> opened;
  for (fake_operation& each : all) opened.push_back(&ledger.open(each));
  for (std::size_t i = 0; i != all.size(); ++i) ASSERT_EQ(opened[i]->op, &all[i]);
  for (task_entry* const each : opened) ledger.close(*each);
}

// ---- What there is to tell.

TEST(task_ledger, hands_operations_out_in_the_order_in_which_they_ended) {
  task_ledger ledger;
  fake_operation first, second, third;
  task_entry& of_first = ledger.open(first);
  task_entry& of_third = ledger.open(third);
  EXPECT_FALSE(ledger.any_completed());
  ledger.complete(of_third);
  EXPECT_TRUE(ledger.any_completed());
  EXPECT_FALSE(ledger.several_completed());
  ledger.push(second);
  ledger.complete(of_first);
  EXPECT_TRUE(ledger.several_completed());
  EXPECT_THAT(taken(ledger), ElementsAre(&third, &second, &first));
  EXPECT_FALSE(ledger.any_completed());
  EXPECT_TRUE(taken(ledger).empty());
}

TEST(task_ledger, completes_an_operation_with_what_its_result_is_by_then) {
  task_ledger ledger;
  fake_operation op;
  op.result.aborted = true;
  ledger.complete(ledger.open(op));
  EXPECT_TRUE(op.result.aborted);
  EXPECT_THAT(taken(ledger), ElementsAre(&op));
}

TEST(task_ledger, hands_notices_out_once_and_in_order) {
  task_ledger ledger;
  std::vector<double> told;
  const callback<void(double)> tell = [&told](double fraction) { told.push_back(fraction); };
  ledger.notify(tell, 0.25);
  ledger.notify(tell, 0.5);
  std::vector<detail::notice> notices;
  ledger.take_completed(notices);
  EXPECT_TRUE(told.empty()) << "nothing of the user's is called in here";
  for (const detail::notice& each : notices) each();
  EXPECT_THAT(told, ElementsAre(0.25, 0.5));
  std::vector<detail::notice> more;
  ledger.take_completed(more);
  EXPECT_TRUE(more.empty());
}

TEST(task_ledger, destroys_operations_that_nobody_has_taken) {
  fake_operation ended, whose_task_is_open;
  {
    task_ledger ledger;
    ledger.complete(ledger.open(ended));
    ledger.open(whose_task_is_open);
  }
  EXPECT_EQ(ended.destroyed, 1);
  EXPECT_EQ(whose_task_is_open.destroyed, 0) << "it is not the ledger's";
}

TEST(task_ledger, has_an_error_for_want_of_memory) {
  const task_ledger ledger;
  try {
    std::rethrow_exception(ledger.no_memory());
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), errc::shm_exhausted);
    EXPECT_THAT(error.what(), HasSubstr(task_ledger::no_memory_text));
  }
}

// ---- Counts.

TEST(task_ledger, counts_submits_and_successes) {
  task_ledger ledger;
  for (int i = 0; i != 4; ++i) ledger.count_submit();
  ledger.count_success();
  pool_stats stats;
  ledger.count(stats);
  EXPECT_EQ(stats.submitted, 4u);
  EXPECT_EQ(stats.completed, 1u);
}

TEST(task_ledger, counts_every_failure_once) {
  task_ledger ledger;
  failure_counts& failures = ledger.failures();
  std::uint64_t next = 1, sum = 0;
  for (std::uint64_t* const each :
       {&failures.threw, &failures.aborted, &failures.deadline_exceeded, &failures.worker_lost, &failures.shm_exhausted,
        &failures.protocol_violation, &failures.worker_start_failed, &failures.pool_broken, &failures.quarantined}) {
    *each = next;
    sum += next;
    next *= 2;
  }
  pool_stats stats;
  ledger.count(stats);
  EXPECT_EQ(stats.failed, sum);
  EXPECT_EQ(stats.failures.quarantined, failures.quarantined);
  EXPECT_EQ(stats.failures.threw, failures.threw);
}

}  // namespace
}  // namespace shmpool::pool
