// What the parent notes of a worker's slots: each hand-over has a number of its own, which is what the worker goes by.
#include "pool/worker_channel.hpp"

#include "loop/completion_queue.hpp"
#include "pool/task_entry.hpp"
#include "wire/frame.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <optional>

namespace shmpool::pool {
namespace {

constexpr std::uint64_t now_ns = 1;

class worker_channel_slots : public ::testing::Test {
 protected:
  std::uint16_t hand_over(task_entry& what) {
    const std::optional<std::uint16_t> index = to.take_slot(what);
    EXPECT_TRUE(index);
    return index.value_or(0);
  }
  void take_back(std::uint16_t index) {
    EXPECT_TRUE(wire::take_back(to.slot(index), to.handover_in(index)));
    to.free_slot(index);
  }

  task_entry task, other_task;
  worker_channel to{1};
};

// A task was taken back and handed to the same worker again, in the same slot. The frame of the first time, unread yet,
// claimed it, as the word held the task's id, and the worker wrote to memory that somebody else had been given.
TEST_F(worker_channel_slots, a_frame_of_an_earlier_hand_over_cannot_claim_the_task) {
  const std::uint16_t index = hand_over(task);
  const std::uint64_t first = to.handover_in(index);
  take_back(index);
  EXPECT_FALSE(wire::claim(to.slot(index), first, now_ns));
  ASSERT_EQ(hand_over(task), index);
  const std::uint64_t second = to.handover_in(index);
  EXPECT_NE(first, second);

  EXPECT_FALSE(wire::claim(to.slot(index), first, now_ns));
  EXPECT_EQ(to.started_tasks(), 0u);
  EXPECT_TRUE(wire::claim(to.slot(index), second, now_ns));
  EXPECT_EQ(to.started_tasks(), 1u);
  EXPECT_FALSE(wire::take_back(to.slot(index), second));
}

TEST_F(worker_channel_slots, an_earlier_hand_over_cannot_claim_the_task_in_another_slot) {
  hand_over(other_task);
  const std::uint16_t index = hand_over(task);
  const std::uint64_t first = to.handover_in(index);
  take_back(0);
  take_back(index);
  ASSERT_EQ(hand_over(task), 0);
  EXPECT_FALSE(wire::claim(to.slot(index), first, now_ns));
  EXPECT_FALSE(wire::claim(to.slot(0), first, now_ns));
  EXPECT_TRUE(wire::claim(to.slot(0), to.handover_in(0), now_ns));
}

TEST_F(worker_channel_slots, a_number_stands_for_its_task_as_long_as_that_is_handed_over) {
  const std::uint16_t index = hand_over(task), other = hand_over(other_task);
  const std::uint64_t first = to.handover_in(index);
  EXPECT_EQ(to.task_in(index), &task);
  EXPECT_EQ(to.task_of(first), &task);
  EXPECT_EQ(to.task_of(to.handover_in(other)), &other_task);

  take_back(index);
  EXPECT_EQ(to.task_in(index), nullptr);
  EXPECT_EQ(to.handover_in(index), 0u);
  EXPECT_EQ(to.task_of(first), nullptr);

  ASSERT_EQ(hand_over(task), index);
  EXPECT_EQ(to.task_of(first), nullptr);
  EXPECT_EQ(to.task_of(to.handover_in(index)), &task);
}

TEST_F(worker_channel_slots, what_is_no_number_and_no_slot_stands_for_nothing) {
  EXPECT_EQ(to.task_of(0), nullptr);
  hand_over(task);
  EXPECT_EQ(to.task_of(0), nullptr);
  EXPECT_EQ(to.task_of(to.handover_in(0) + 1), nullptr);
  EXPECT_EQ(to.task_in(wire::slot_count), nullptr);
  EXPECT_EQ(to.handover_in(wire::slot_count), 0u);
}

TEST_F(worker_channel_slots, a_request_to_stop_does_not_outlive_its_hand_over) {
  const std::uint16_t index = hand_over(task);
  to.slot(index).stop.store(to.handover_in(index));
  to.free_slot(index);
  ASSERT_EQ(hand_over(task), index);
  EXPECT_EQ(to.slot(index).stop.load(), 0u);
}

// ---- Answers. A worker that reads none must not be able to ask for more: the parent would have to keep them all.

class worker_channel_answers : public ::testing::Test {
 protected:
  static wire::frame_header grant() {
    wire::frame_header header;
    header.type = wire::frame_type::grant;
    return header;
  }
  void answer_with_descriptor() {
    wire::segment_ref ref;
    ref.flags = wire::flag_with_fd;
    to.queue_frame(grant(), ref, STDERR_FILENO, {});
    to.start_sending(*queue, now);
  }

  std::unique_ptr<loop::completion_queue> queue = loop::make_completion_queue(backend::epoll);
  const monotonic_clock::time_point now{};
  worker_channel to{1};
};

TEST_F(worker_channel_answers, in_the_ring_may_have_been_read_when_they_are_published) {
  to.queue_frame(grant(), {}, {});
  EXPECT_TRUE(to.answer_waits);
  to.start_sending(*queue, now);
  EXPECT_FALSE(to.answer_waits);
}

// The ring, with the frame that leads to the socket, was published; the answer was not sent. It counted as read.
TEST_F(worker_channel_answers, on_a_socket_that_is_full_cannot_have_been_read) {
  int answers = 0;
  for (; answers != 100'000 && !to.answer_waits; ++answers) {
    answer_with_descriptor();
    to.control.page().frames_taken = to.control.page().frames_end.load();  // it says that it reads the ring
  }
  EXPECT_LT(answers, 100'000) << "an answer waits in the end";
  EXPECT_TRUE(to.send.pending);
  wire::frame_header other;
  other.type = wire::frame_type::leave;
  to.queue_frame(other, {}, {});
  to.start_sending(*queue, now);
  EXPECT_TRUE(to.answer_waits) << "whatever else is published";
  queue->cancel_all();
}

}  // namespace
}  // namespace shmpool::pool
