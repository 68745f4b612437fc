// map() against a fake engine: the order of results, the chunks that it makes, and the call of the handler. No process.
#include "asio/map_fixture.hpp"

#include <asio.hpp>

#include <array>
#include <chrono>
#include <exception>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

namespace shmpool {
namespace {

using namespace std::chrono_literals;
using namespace shmpool::testing;
using detail::flush_hint;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

// ---- Results.

TEST_F(maps, give_the_results_in_the_order_of_the_range_when_the_last_chunk_ends_first) {
  engine->workers = 2;
  map(got.handler(), &twice, std::vector{1, 2, 3, 4, 5, 6, 7});
  while (engine->task_count() != 0) do_task(engine->task_count() - 1);
  EXPECT_EQ(done.back(), 1);
  EXPECT_EQ(got.calls, 1);
  EXPECT_FALSE(got.error);
  EXPECT_THAT(got.values, ElementsAre(2, 4, 6, 8, 10, 12, 14));
}

TEST_F(maps, give_the_results_in_the_order_of_the_range_when_the_chunks_end_in_turn) {
  map(got.handler(), &twice, std::vector{1, 2, 3, 4, 5});
  do_all_tasks();
  EXPECT_EQ(got.calls, 1);
  EXPECT_THAT(got.values, ElementsAre(2, 4, 6, 8, 10));
}

// The loop hears of all at once, and delivers one chunk per turn.
TEST_F(maps, take_in_chunks_that_end_at_the_same_time) {
  engine->workers = 2;
  map(got.handler(), &twice, std::vector{1, 2, 3, 4});
  turn([&] {
    for (const unsigned which : {2U, 0U, 1U, 0U}) engine->do_task(which);
  });
  EXPECT_THAT(done, ElementsAre(3, 1, 4, 2));
  EXPECT_EQ(got.calls, 1);
  EXPECT_THAT(got.values, ElementsAre(2, 4, 6, 8));
}

TEST_F(maps, without_results_complete_when_all_tasks_have_ended) {
  map(got.void_handler(), &note, std::vector{1, 2, 3});
  do_task();
  do_task();
  EXPECT_EQ(got.calls, 0);
  do_all_tasks();
  EXPECT_EQ(got.calls, 1);
  EXPECT_FALSE(got.error);
  EXPECT_THAT(done, ElementsAre(1, 2, 3));
}

TEST_F(maps, without_results_name_the_element_that_threw) {
  map(got.void_handler(), &note_unless_negative, std::vector{1, -2, 3});
  do_all_tasks();
  EXPECT_EQ(got.calls, 1);
  EXPECT_TRUE(got.failed_with<std::invalid_argument>());
  EXPECT_EQ(got.element(), 1U);
}

TEST_F(maps, without_results_refuse_a_reply_that_has_one) {
  map(got.void_handler(), &note, std::vector{1});
  turn([&] {
    detail::operation& op = engine->first_waiting();
    op.result.bytes.assign(10, std::byte{0});
    op.result.bytes[0] = op.result.bytes[1] = std::byte{1};  // a result of one byte
    engine->end(op);
  });
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), errc::protocol_violation);
}

TEST_F(maps, refuse_a_reply_with_more_results_than_elements) {
  map(got.handler(), &twice, std::vector{1});
  turn([&] {
    detail::operation& op = engine->first_waiting();
    engine->do_task();
    op.result.bytes.push_back(std::byte{1});
  });
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), errc::protocol_violation);
  EXPECT_THAT(got.values, IsEmpty());
}

TEST_F(maps, refuse_a_reply_with_fewer_results_than_elements) {
  map(got.handler(), &twice, std::vector{1});
  turn([&] { engine->end(engine->first_waiting()); });
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), errc::protocol_violation);
}

// ---- Chunks.

TEST_F(maps, have_two_chunks_in_flight_for_each_worker) {
  engine->workers = 3;
  map(got.handler(), &twice, numbers(20));
  EXPECT_EQ(engine->task_count(), 6U);
  do_task();
  EXPECT_EQ(engine->task_count(), 6U);
  do_all_tasks();
  EXPECT_EQ(got.values.size(), 20U);
}

TEST_F(maps, begin_with_one_element_and_go_on_with_half_a_millisecond) {
  engine->run_time = 100us;
  map(got.handler(), &twice, numbers(100));
  do_task();
  do_task();
  EXPECT_THAT(done, ElementsAre(0, 1));
  done.clear();
  do_task();
  EXPECT_THAT(done, ElementsAre(2, 3, 4, 5, 6));
}

// The two that began with one element say that an element takes no time, so that a chunk could have 1,024.
TEST_F(maps, share_out_the_end_of_a_range_whose_size_is_known) {
  map(got.handler(), &twice, sized_numbers(12));
  do_task();
  do_task();
  done.clear();
  do_task();
  EXPECT_THAT(done, ElementsAre(2, 3, 4, 5, 6, 7));
  do_all_tasks();
  EXPECT_EQ(got.values.size(), 12U);
}

TEST_F(maps, give_each_chunk_the_deadline_of_the_map) {
  const auto before = std::chrono::steady_clock::now();
  map(got.handler(), &twice, std::vector{1, 2, 3}, task_options{.deadline = 1h});
  const auto deadline = engine->waiting(0).deadline;
  EXPECT_GE(deadline, before + 1h);
  EXPECT_LE(deadline, std::chrono::steady_clock::now() + 1h);
  EXPECT_EQ(engine->waiting(1).deadline, deadline);
  do_task();
  EXPECT_EQ(engine->waiting(1).deadline, deadline) << "from the beginning, not from the submit";
  do_all_tasks();
}

TEST_F(maps, with_a_deadline_that_makes_no_sense_post_its_error_and_ask_nothing_of_the_engine) {
  map(got.handler(), &twice, std::vector{1}, task_options{.deadline = -1s});
  EXPECT_EQ(got.calls, 0);
  run();
  EXPECT_EQ(got.calls, 1);
  EXPECT_TRUE(got.failed_with<std::invalid_argument>());
  EXPECT_THAT(engine->calls, IsEmpty());
}

TEST_F(maps, flush_once_for_the_chunks_of_a_turn) {
  engine->hint = flush_hint::soon;
  map(got.handler(), &twice, std::vector{1, 2, 3});
  EXPECT_EQ(submits(), 2);
  EXPECT_EQ(engine->count("flush"), 0);
  io().poll();
  EXPECT_EQ(engine->count("flush"), 1);
  do_all_tasks();
}

TEST_F(maps, flush_at_once_when_the_engine_asks_for_it) {
  engine->hint = flush_hint::now;
  map(got.handler(), &twice, std::vector{1});
  EXPECT_EQ(engine->count("flush"), 1);
  do_all_tasks();
}

// The range is user code: it may run the loop, which brings chunks back while the next one is made.
TEST_F(maps, take_in_a_chunk_that_comes_back_while_the_range_is_read) {
  bool inside = false;
  const auto seen = [&](access what, int element) {
    if (what != access::read || element != 3) return;
    EXPECT_FALSE(std::exchange(inside, true)) << "it is read by one at a time";
    engine->drains.then([&] { engine->do_task(); });
    engine->ring();
    io().poll();
    inside = false;
  };
  engine->run_time = 1ms;
  map(got.handler(), &twice, numbers(6, seen));
  do_all_tasks();
  EXPECT_EQ(got.calls, 1);
  EXPECT_THAT(got.values, ElementsAre(0, 2, 4, 6, 8, 10));
}

// ---- Handlers.

TEST_F(maps, over_nothing_complete_by_post) {
  map(got.handler(), &twice, std::vector<int>());
  EXPECT_EQ(got.calls, 0);
  run();
  EXPECT_EQ(got.calls, 1);
  EXPECT_FALSE(got.error);
  EXPECT_THAT(got.values, IsEmpty());
  EXPECT_THAT(engine->calls, Not(Contains(StartsWith("submit"))));
}

TEST_F(maps, over_nothing_and_without_results_complete_by_post) {
  map(got.void_handler(), &note, std::vector<int>());
  EXPECT_EQ(got.calls, 0);
  run();
  EXPECT_EQ(got.calls, 1);
  EXPECT_FALSE(got.error);
}

TEST_F(maps, over_nothing_do_not_complete_inside_a_handler_that_begins_them) {
  bool inside = false;
  asio::post(io(), [&] {
    inside = true;
    map(
        [&](std::exception_ptr, std::vector<int>) {
          EXPECT_FALSE(inside);
          ++got.calls;
        },
        &twice, std::vector<int>());
    inside = false;
  });
  run();
  EXPECT_EQ(got.calls, 1);
}

// The tasks are done before the submits have returned, as they may be by another thread's hand.
TEST_F(maps, call_no_handler_though_all_tasks_end_inside) {
  engine->hint = flush_hint::now;
  engine->submits.then([&] { engine->do_task(); }).then([&] { engine->do_task(); });
  map(got.handler(), &twice, std::vector{1, 2});
  EXPECT_EQ(got.calls, 0);
  run();
  EXPECT_EQ(got.calls, 1);
  EXPECT_THAT(got.values, ElementsAre(2, 4));
}

TEST_F(maps, let_out_what_the_handler_throws_and_keep_nothing_of_it) {
  auto token = std::make_shared<int>(1);
  const std::weak_ptr<int> alive = token;
  map([token = std::move(token)](std::exception_ptr, std::vector<int>) { throw range_failed(); }, &twice,
      std::vector{1});
  engine->drains.then([&] { engine->do_task(); });
  engine->ring();
  EXPECT_THROW(run(), range_failed);
  EXPECT_TRUE(alive.expired());
  run();
}

TEST_F(maps, keep_the_context_of_their_handler_running) {
  asio::io_context other;
  map(asio::bind_executor(other, got.handler()), &twice, std::vector{1});
  other.poll();
  EXPECT_FALSE(other.stopped());
  do_all_tasks();
  EXPECT_EQ(got.calls, 0);
  other.run();
  EXPECT_THAT(got.values, ElementsAre(2));
}

// fill() looks at the size of the whole message, with the function in it, before it takes the first element: with a
// function of 256 KiB or more each chunk was empty, and the map submitted empty chunks for ever.
TEST_F(maps, get_on_with_a_function_that_is_large) {
  const std::array<char, 256 * 1024> table{};
  map(got.handler(), by_value([table](int x) { return x + table[0]; }), std::vector{1, 2, 3});
  for (int i = 0; i != 10; ++i) {
    if (engine->task_count() != 0) do_task();
  }
  EXPECT_LE(submits(), 3);
  EXPECT_EQ(got.calls, 1);
  EXPECT_THAT(got.values, ElementsAre(1, 2, 3));
}

}  // namespace
}  // namespace shmpool
