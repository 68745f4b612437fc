// Ids that never repeat, and lists that stay in order.
#include "sched/task_table.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <vector>

namespace shmpool::sched {
namespace {

index_type add(task_table& tasks, std::uint64_t order = 0) {
  const index_type index = tasks.acquire();
  tasks[index].state = task_state::queued;
  tasks[index].order = order;
  return index;
}

std::vector<std::uint64_t> orders(const task_table& tasks, const task_list& list) {
  std::vector<std::uint64_t> out;
  for (index_type task = list.front(); task != no_index; task = tasks[task].next) out.push_back(tasks[task].order);
  return out;
}

TEST(task_table, ids_are_never_zero_and_never_repeat) {
  task_table tasks;
  std::set<task_id> seen{0};
  for (int i = 0; i < 1000; ++i) {
    const index_type index = add(tasks);
    EXPECT_TRUE(seen.insert(tasks.id(index)).second);
    tasks.release(index);
  }
  EXPECT_EQ(tasks.slots(), 1U) << "yet the memory is used again";
}

TEST(task_table, released_task_is_not_found_even_when_its_record_is_used_again) {
  task_table tasks;
  const index_type index = add(tasks);
  const task_id old = tasks.id(index);
  EXPECT_EQ(tasks.find(old), index);
  tasks.release(index);
  EXPECT_EQ(tasks.find(old), no_index);
  EXPECT_EQ(add(tasks), index);
  EXPECT_EQ(tasks.find(old), no_index);
}

TEST(task_table, record_whose_generations_are_used_up_is_not_used_again) {
  task_table tasks(std::numeric_limits<std::uint32_t>::max());
  const index_type last = add(tasks);
  const task_id id = tasks.id(last);
  tasks.release(last);
  EXPECT_NE(add(tasks), last);
  EXPECT_EQ(tasks.find(id), no_index);
}

TEST(task_table, ids_that_make_no_sense_are_not_found) {
  task_table tasks;
  add(tasks);
  EXPECT_EQ(tasks.find(0), no_index);
  EXPECT_EQ(tasks.find(2), no_index);
  EXPECT_EQ(tasks.find(task_id{1} << 32), no_index);
  EXPECT_EQ(tasks.find(std::numeric_limits<task_id>::max()), no_index);
}

TEST(task_list, insert_by_order_keeps_the_list_sorted) {
  task_table tasks;
  task_list list;
  for (const std::uint64_t order : {5U, 7U}) list.push_back(tasks, add(tasks, order));
  for (const std::uint64_t order : {6U, 1U, 9U, 3U}) list.insert_by_order(tasks, add(tasks, order));
  EXPECT_EQ(orders(tasks, list), (std::vector<std::uint64_t>{1, 3, 5, 6, 7, 9}));
  EXPECT_EQ(list.size(), 6U);
}

TEST(task_list, removes_at_both_ends_and_in_the_middle) {
  task_table tasks;
  task_list list;
  std::vector<index_type> indices;
  for (std::uint64_t order = 0; order < 5; ++order) {
    indices.push_back(add(tasks, order));
    list.push_back(tasks, indices.back());
  }
  list.remove(tasks, indices[0]);
  list.remove(tasks, indices[2]);
  list.remove(tasks, indices[4]);
  EXPECT_EQ(orders(tasks, list), (std::vector<std::uint64_t>{1, 3}));
  EXPECT_EQ(list.back(), indices[3]);
  list.remove(tasks, indices[1]);
  list.remove(tasks, indices[3]);
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(list.front(), no_index);
  EXPECT_EQ(list.back(), no_index);
}

}  // namespace
}  // namespace shmpool::sched
