// A task is claimed by the worker or taken back by the parent, never both and never neither.
#include "wire/control_page.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>

namespace shmpool::wire {
namespace {

constexpr auto queued = slot_state::queued;
constexpr auto started = slot_state::started;
constexpr auto taken = slot_state::taken;

TEST(slots, is_claimed_once_by_the_worker) {
  slot in{};
  in.word = slot_word(9, queued);
  EXPECT_TRUE(claim(in, 9, 1234));
  EXPECT_EQ(in.word, slot_word(9, started));
  EXPECT_EQ(in.started_ns, 1234U);
  EXPECT_FALSE(claim(in, 9, 1235));
  EXPECT_FALSE(take_back(in, 9));
}

TEST(slots, that_was_taken_back_cannot_be_claimed) {
  slot in{};
  in.word = slot_word(9, queued);
  EXPECT_TRUE(take_back(in, 9));
  EXPECT_EQ(in.word, slot_word(9, taken));
  EXPECT_FALSE(claim(in, 9, 1));
}

TEST(slots, used_again_is_not_claimed_for_the_former_task) {
  slot in{};
  in.word = slot_word(9, queued);
  ASSERT_TRUE(take_back(in, 9));
  in.word = slot_word(10, queued);
  EXPECT_FALSE(claim(in, 9, 1));  // the frame of task 9 is still in the socket
  EXPECT_TRUE(claim(in, 10, 2));
}

TEST(slots, goes_to_exactly_one_side_of_a_race) {
  slot in{};
  std::atomic<std::uint64_t> round{0};
  std::atomic<int> finished{0};
  constexpr std::uint64_t rounds = 20'000;
  std::atomic<std::uint64_t> claims{0}, recalls{0};
  const auto contender = [&](auto attempt, std::atomic<std::uint64_t>& wins) {
    for (std::uint64_t task = 1; task <= rounds; ++task) {
      while (round.load() < task) std::this_thread::yield();
      if (attempt(task)) ++wins;
      ++finished;
    }
  };
  std::thread worker([&] { contender([&](std::uint64_t task) { return claim(in, task, task); }, claims); });
  std::thread parent([&] { contender([&](std::uint64_t task) { return take_back(in, task); }, recalls); });
  for (std::uint64_t task = 1; task <= rounds; ++task) {
    in.word = slot_word(task, queued);
    round = task;
    while (finished.load() != static_cast<int>(2 * task)) std::this_thread::yield();
    ASSERT_EQ(claims + recalls, task);
  }
  worker.join();
  parent.join();
}

TEST(control_pages, has_the_documented_layout) {
  EXPECT_EQ(offsetof(control_page, reply_end), 64U);
  EXPECT_EQ(offsetof(control_page, reply_begin), 72U);
  EXPECT_EQ(offsetof(control_page, frames_taken), 80U);
  EXPECT_EQ(offsetof(control_page, sleeps), 88U);
  EXPECT_EQ(offsetof(control_page, sleeps_at_socket), 92U);
  EXPECT_EQ(offsetof(control_page, frames_end), 128U);
  EXPECT_EQ(offsetof(control_page, reply_taken), 136U);
  EXPECT_EQ(offsetof(control_page, parent_sleeps), 144U);
  EXPECT_EQ(offsetof(control_page, spin_ns), 152U);
  EXPECT_EQ(offsetof(control_page, parent_cpu), 156U);
  EXPECT_EQ(offsetof(control_page, wakes_by_futex), 160U);
  EXPECT_EQ(offsetof(control_page, slots), 192U);
  EXPECT_EQ(offsetof(control_page, reply_ring), 4096U);
  EXPECT_EQ(offsetof(control_page, request_ring), 4096U + 256 * 1024);
  EXPECT_EQ(sizeof(control_page), 4096U + 512 * 1024);
}

}  // namespace
}  // namespace shmpool::wire
