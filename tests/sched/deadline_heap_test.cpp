// The heap of deadlines against a map.
#include "sched/deadline_heap.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <random>

namespace shmpool::sched {
namespace {

time_point at(int second) {
  return time_point{std::chrono::seconds{second}};
}

TEST(deadline_heap, nothing_is_due_in_an_empty_heap) {
  const deadline_heap heap;
  EXPECT_EQ(heap.due(time_point::max()), no_index);
  EXPECT_FALSE(heap.earliest());
}

TEST(deadline_heap, deadline_is_due_from_its_time_on) {
  deadline_heap heap;
  heap.set(3, at(10));
  EXPECT_EQ(heap.due(at(9)), no_index);
  EXPECT_EQ(heap.due(at(10)), 3U);
}

TEST(deadline_heap, agrees_with_a_sorted_map_whatever_is_set_moved_and_cleared) {
  std::mt19937_64 random(7);
  deadline_heap heap;
  std::map<index_type, time_point> model;
  for (int step = 0; step < 20'000; ++step) {
    const index_type task = static_cast<index_type>(random() % 40);
    if (random() % 3 == 0) {
      heap.clear(task);
      model.erase(task);
    } else {
      model[task] = at(static_cast<int>(random() % 1000));
      heap.set(task, model[task]);
    }
    if (random() % 10 == 0 && !model.empty()) {
      const index_type first = heap.first();
      model[first] += std::chrono::milliseconds(random() % 100);
      heap.raise_first(model[first]);
    }
    ASSERT_EQ(heap.size(), model.size());
    if (model.empty()) continue;
    time_point earliest = time_point::max();
    for (const auto& [_, when] : model) earliest = std::min(earliest, when);
    ASSERT_EQ(heap.earliest(), earliest);
    ASSERT_EQ(model.at(heap.due(earliest)), earliest);
  }
}

}  // namespace
}  // namespace shmpool::sched
