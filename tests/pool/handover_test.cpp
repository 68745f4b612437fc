// How a task is handed to a worker, with the test at the worker's end of the socket.
#include "pool/handover.hpp"

#include "loop/completion_queue.hpp"
#include "pool/worker_end.hpp"
#include "shm/shm_fixture.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/socket.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace shmpool::pool {
namespace {

using namespace std::chrono_literals;
using shm::KiB;
using ::testing::ElementsAre;
using wire::frame_type;

void first(detail::invocation&) {
}
void second(detail::invocation&) {
}

constexpr monotonic_clock::time_point now{1h};

/// A frame as the worker gets it.
using heard = worker_end::heard;

class handovers : public shm::shm_fixture {
 protected:
  void SetUp() override {
    shm::store_options options;
    options.backing = backing::memfd;
    options.cache_bytes = shm::MiB;
    courier.emplace(options);
    watch(courier->store().pool_id());
  }
  void TearDown() override {
    tasks.clear();
    end.reset();
    worker.reset();
    courier.reset();
    shm_fixture::TearDown();
  }

  task_entry& make(detail::trampoline function, std::uint64_t id, std::vector<std::byte> arguments = {}) {
    task_entry& made = *tasks.emplace_back(std::make_unique<task_entry>());
    made.id = id;
    made.function = functions.number({function, nullptr});
    made.arguments = std::move(arguments);
    return made;
  }
  void hand(task_entry& task) { hand_over(*worker, task, functions, *courier, now); }

  std::vector<heard> hears() { return end->hears(*queue); }
  static std::vector<frame_type> types_of(const std::vector<heard>& all) {
    std::vector<frame_type> types;
    for (const heard& each : all) types.push_back(each.header.type);
    return types;
  }

  std::unique_ptr<loop::completion_queue> queue = loop::make_completion_queue(backend::epoll);
  std::optional<worker_channel> worker{std::in_place, 5};
  std::optional<worker_end> end{std::in_place, *worker};
  std::optional<segment_courier> courier;
  function_table functions;
  std::vector<std::unique_ptr<task_entry>> tasks;
};

TEST_F(handovers, a_task_is_in_a_slot_and_its_frame_says_what_to_run) {
  make(second, 1);
  const std::vector<std::byte> arguments{std::byte{4}, std::byte{2}};
  task_entry& task = make(first, 31, arguments);
  hand(task);
  EXPECT_EQ(task.on, &*worker);
  EXPECT_EQ(task.assigned, now);
  EXPECT_EQ(worker->task_in(task.slot), &task);
  const auto frames = hears();
  ASSERT_FALSE(frames.empty());
  const wire::frame_header& header = frames.back().header;
  EXPECT_EQ(header.type, frame_type::task);
  EXPECT_EQ(header.slot, task.slot);
  EXPECT_EQ(header.task, worker->handover_in(task.slot)) << "the worker knows it by the hand-over";
  EXPECT_EQ(header.value, task.function);
  EXPECT_EQ(frames.back().body, arguments);
  EXPECT_TRUE(frames.back().segments.empty());
  EXPECT_TRUE(wire::claim(worker->slot(task.slot), header.task, 1)) << "it may begin";
}

TEST_F(handovers, a_function_is_introduced_before_its_first_task_and_once) {
  task_entry &one = make(first, 1), &two = make(first, 2), &three = make(second, 3);
  hand(one);
  hand(two);
  hand(three);
  const auto frames = hears();
  ASSERT_THAT(types_of(frames), ElementsAre(frame_type::function, frame_type::task, frame_type::task,
                                            frame_type::function, frame_type::task));
  EXPECT_EQ(frames[0].header.value, one.function);
  EXPECT_EQ(frames[0].body, functions[one.function].definition);
  EXPECT_EQ(frames[3].header.value, three.function);
  EXPECT_EQ(frames[3].body, functions[three.function].definition);
}

TEST_F(handovers, a_function_with_a_higher_number_does_not_make_a_lower_one_known) {
  task_entry &low = make(first, 1), &high = make(second, 2);
  ASSERT_LT(low.function, high.function);
  hand(high);
  hand(low);
  EXPECT_THAT(types_of(hears()),
              ElementsAre(frame_type::function, frame_type::task, frame_type::function, frame_type::task));
}

TEST_F(handovers, a_function_is_introduced_to_each_worker) {
  task_entry &one = make(first, 1), &two = make(first, 2);
  hand(one);
  hears();
  one.unassign();
  worker.emplace(6);
  end.emplace(*worker);
  hand(two);
  EXPECT_THAT(types_of(hears()), ElementsAre(frame_type::function, frame_type::task));
}

TEST_F(handovers, segments_are_introduced_before_the_task_that_refers_to_them) {
  const shm_handle lent = courier->store().allocate(64 * KiB, 8);
  task_entry& task = make(first, 1);
  task.arrays = lent_arrays({{lent, 8, 100, detail::access::write}});
  hand(task);
  const auto frames = hears();
  ASSERT_THAT(types_of(frames), ElementsAre(frame_type::function, frame_type::segment, frame_type::task));
  ASSERT_EQ(frames[2].segments.size(), 1u);
  EXPECT_EQ(frames[2].segments[0].id, lent.get()->id());
  EXPECT_EQ(frames[2].segments[0].offset, 8u);
  EXPECT_EQ(frames[2].segments[0].length, 100u);
}

TEST_F(handovers, memory_for_its_result_comes_with_a_task_as_its_function_has_needed_it) {
  const std::uint64_t warm = courier->store().allocate(64 * KiB, 8).get()->id();
  task_entry& task = make(first, 1);
  functions[task.function].result_sizes = {64 * KiB};
  hand(task);
  ASSERT_EQ(task.leases.size(), 1u);
  EXPECT_EQ(task.leases[0].get()->id(), warm);
  const auto frames = hears();
  ASSERT_EQ(frames.back().segments.size(), 1u);
  EXPECT_EQ(frames.back().segments[0].id, warm);
  EXPECT_EQ(frames.back().segments[0].access, static_cast<std::uint8_t>(detail::access::lease));
}

TEST_F(handovers, a_task_that_is_handed_over_again_begins_anew) {
  task_entry& task = make(first, 31);
  hand(task);
  const std::uint64_t earlier = worker->handover_in(task.slot);
  task.seen_started = now;
  task.unassign();
  hand_over(*worker, task, functions, *courier, now + 1s);
  EXPECT_EQ(task.assigned, now + 1s);
  EXPECT_EQ(task.seen_started, monotonic_clock::time_point::max());
  EXPECT_NE(worker->handover_in(task.slot), earlier);
  const auto frames = hears();
  ASSERT_THAT(types_of(frames), ElementsAre(frame_type::function, frame_type::task, frame_type::task));
  EXPECT_EQ(frames[2].header.task, worker->handover_in(task.slot));
}

}  // namespace
}  // namespace shmpool::pool
