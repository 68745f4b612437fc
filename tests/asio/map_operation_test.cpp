// The operation behind map() against a fake engine: which chunks it makes and when, what it does with permits, the
// order of results and errors, cancellation, and what becomes of it when something refuses or goes away. No process.
#include "asio/driver_fixture.hpp"
#include "asio/fake_engine.hpp"
#include "asio/map_fixture.hpp"

#include <shmpool/by_value.hpp>
#include <shmpool/detail/asio/map_operation.hpp>
#include <shmpool/process_pool.hpp>

#include <asio.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <ranges>
#include <stdexcept>
#include <string>
#include <system_error>
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

std::vector<int> done;  // the elements on which the functions below were called

int twice(int x) {
  done.push_back(x);
  return 2 * x;
}
int twice_unless_negative(int x) {
  done.push_back(x);
  if (x < 0) throw std::invalid_argument("negative");
  return 2 * x;
}
void note(int x) {
  done.push_back(x);
}
void note_unless_negative(int x) {
  if (x < 0) throw std::invalid_argument("negative");
  done.push_back(x);
}

const std::error_code aborted = asio::error::make_error_code(asio::error::operation_aborted);

class maps : public map_fixture {
 protected:
  maps() { done.clear(); }
};

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

// ---- Tasks that fail.

TEST_F(maps, name_the_element_that_threw) {
  map(got.handler(), &twice_unless_negative, std::vector{0, 1, -2, 3});
  do_all_tasks();
  EXPECT_EQ(got.calls, 1);
  EXPECT_TRUE(got.failed_with<std::invalid_argument>());
  EXPECT_EQ(got.element(), 2U);
  EXPECT_THAT(got.values, IsEmpty());
}

TEST_F(maps, name_the_element_that_threw_in_the_middle_of_a_chunk) {
  map(got.handler(), &twice_unless_negative, std::vector{0, 1, 2, 3, -4, 5, 6, 7, 8, 9});
  do_task();
  do_task();
  done.clear();
  do_task();
  EXPECT_THAT(done, ElementsAre(2, 3, -4)) << "the chunk begins at 2 and ends with the exception";
  do_all_tasks();
  EXPECT_EQ(got.element(), 4U);
}

TEST_F(maps, report_of_several_failures_the_first_of_the_range_if_it_comes_last) {
  engine->workers = 2;
  map(got.handler(), &twice_unless_negative, std::vector{1, -2, -3, -4});
  while (engine->task_count() != 0) do_task(engine->task_count() - 1);
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.element(), 1U);
}

TEST_F(maps, report_of_several_failures_the_first_of_the_range_if_it_comes_first) {
  engine->workers = 2;
  map(got.handler(), &twice_unless_negative, std::vector{1, -2, -3, -4});
  do_all_tasks();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.element(), 1U);
}

TEST_F(maps, take_no_elements_after_a_failure_and_end_when_the_chunks_in_flight_have) {
  map(got.handler(), &twice_unless_negative, std::vector{-1, 2, 3, 4});
  do_task();
  EXPECT_EQ(got.calls, 0);
  EXPECT_EQ(engine->task_count(), 1U);
  do_task();
  EXPECT_EQ(submits(), 2);
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.element(), 0U);
}

TEST_F(maps, end_with_the_error_that_ends_a_task) {
  map(got.handler(), &twice, std::vector{1, 2, 3});
  turn([&] {
    engine->first_waiting().result.error = refused_with(errc::worker_lost);
    engine->end(engine->first_waiting());
  });
  EXPECT_EQ(got.calls, 0);
  do_all_tasks();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), errc::worker_lost);
  EXPECT_EQ(submits(), 2);
}

// That of the task that was lost comes first, and is of an element behind the other.
TEST_F(maps, report_a_task_that_failed_before_the_element_of_one_that_was_lost) {
  map(got.handler(), &twice_unless_negative, std::vector{1, -2, 3});
  do_task();
  turn([&] {
    engine->waiting(1).result.error = refused_with(errc::worker_lost);
    engine->end(engine->waiting(1));
  });
  do_task();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.element(), 1U);
}

TEST_F(maps, are_aborted_by_the_abort_of_one_task) {
  map(got.handler(), &twice, std::vector{1, 2, 3});
  turn([&] { engine->abort(engine->first_waiting()); });
  do_all_tasks();
  EXPECT_EQ(submits(), 2);
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), aborted);
  EXPECT_THAT(got.values, IsEmpty());
}

// ---- An engine that refuses.

TEST_F(maps, that_the_engine_refuses_post_its_error_and_wait_for_nothing) {
  engine->refusal = refused_with(errc::queue_full);
  map(got.handler(), &twice, std::vector{1, 2, 3});
  EXPECT_EQ(submits(), 1);
  EXPECT_EQ(got.calls, 0);
  run();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), errc::queue_full);
}

TEST_F(maps, that_the_engine_refuses_halfway_end_when_the_chunks_in_flight_have) {
  map(got.handler(), &twice, std::vector{1, 2, 3});
  engine->refusal = refused_with(errc::pool_closed);
  do_task();
  EXPECT_EQ(submits(), 3);
  EXPECT_EQ(got.calls, 0);
  do_task();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), errc::pool_closed);
  EXPECT_THAT(got.values, IsEmpty());
}

TEST_F(maps, report_a_task_that_failed_before_the_element_that_the_engine_has_refused) {
  map(got.handler(), &twice_unless_negative, std::vector{1, -2, 3});
  engine->refusal = refused_with(errc::pool_closed);
  do_all_tasks();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.element(), 1U);
}

TEST_F(maps, throw_pool_closed_when_the_context_is_gone) {
  context.reset();
  try {
    map(got.handler(), &twice, std::vector{1});
    ADD_FAILURE() << "there is nowhere to post the completion";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), errc::pool_closed);
  }
  EXPECT_EQ(got.calls, 0);
}

TEST_F(maps, are_posted_as_aborted_when_the_pool_closes) {
  map(got.handler(), &twice, std::vector{1, 2, 3});
  pool->close();
  EXPECT_EQ(got.calls, 0);
  run();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), aborted);
}

// ---- A range that throws, with and without a bound.

struct failing_access {
  const char* name;
  access what;
  bool bound;
};

class failing_ranges : public maps, public ::testing::WithParamInterface<failing_access> {
 protected:
  failing_ranges() {
    engine->run_time = 1ms;  // one element in each chunk
    engine->has_bound = GetParam().bound;
    engine->permit = GetParam().bound ? 5 : 0;
  }
  void expect_no_permit_kept() const {
    if (!GetParam().bound) return;
    EXPECT_EQ(engine->count("acquire"), engine->count("submit to 5") + releases_of(5));
  }
};

TEST_P(failing_ranges, end_the_map_when_they_throw_at_once_which_posts_the_error) {
  map(got.handler(), &twice, numbers(3, fail_at(GetParam().what, 0)));
  EXPECT_EQ(got.calls, 0);
  do_all_tasks();
  run();
  EXPECT_EQ(got.calls, 1);
  EXPECT_TRUE(got.failed_with<range_failed>());
  EXPECT_EQ(submits(), 0);
  expect_no_permit_kept();
}

TEST_P(failing_ranges, end_the_map_when_they_throw_halfway_once_the_chunks_in_flight_have_ended) {
  map(got.handler(), &twice, numbers(6, fail_at(GetParam().what, 3)));
  do_task();
  EXPECT_EQ(got.calls, 0);
  do_all_tasks();
  EXPECT_EQ(got.calls, 1);
  EXPECT_TRUE(got.failed_with<range_failed>());
  EXPECT_THAT(got.values, IsEmpty());
  expect_no_permit_kept();
}

INSTANTIATE_TEST_SUITE_P(each, failing_ranges,
                         ::testing::Values(failing_access{"read", access::read, false},
                                           failing_access{"advance", access::advance, false},
                                           failing_access{"end", access::end, false},
                                           failing_access{"read_with_a_bound", access::read, true},
                                           failing_access{"advance_with_a_bound", access::advance, true},
                                           failing_access{"end_with_a_bound", access::end, true}),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST_F(maps, end_with_what_the_begin_of_the_range_throws) {
  map(got.handler(), &twice, numbers(3, fail_at(access::begin, 0)));
  EXPECT_EQ(got.calls, 0);
  run();
  EXPECT_EQ(got.calls, 1);
  EXPECT_TRUE(got.failed_with<range_failed>());
  EXPECT_EQ(submits(), 0);
}

TEST_F(maps, report_a_task_that_failed_before_the_element_at_which_the_range_throws) {
  engine->run_time = 1ms;
  map(got.handler(), &twice_unless_negative,
      numbers(6, fail_at(access::read, 2)) | std::views::transform([](int x) { return x == 1 ? -1 : x; }));
  do_all_tasks();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.element(), 1U);
}

// ---- Where chunks wait for room.

class maps_with_a_bound : public maps {
 protected:
  maps_with_a_bound() {
    engine->has_bound = true;
    engine->run_time = 1ms;  // one element in each chunk
  }
  /// Counts the elements that were taken from the range.
  auto counting() {
    return [this](access what, int) { taken += what == access::read; };
  }
  int taken = 0;
};

TEST_F(maps_with_a_bound, take_elements_only_when_a_chunk_has_a_permit) {
  map(got.handler(), &twice, numbers(3, counting()));
  EXPECT_THAT(engine->calls, ElementsAre("acquire", "acquire"));
  EXPECT_EQ(taken, 0);
  grant(7);
  EXPECT_EQ(taken, 1);
  EXPECT_EQ(engine->count("submit to 7"), 1);
  EXPECT_EQ(submits(), 1);
  do_all_tasks();
  EXPECT_EQ(taken, 1) << "the chunk that is next has no permit yet";
  EXPECT_EQ(engine->count("acquire"), 3);
  grant(8);
  grant(9);
  do_all_tasks();
  EXPECT_EQ(got.calls, 1);
  EXPECT_THAT(got.values, ElementsAre(0, 2, 4));
  EXPECT_EQ(releases(), 0) << "each permit was used";
}

TEST_F(maps_with_a_bound, submit_at_once_with_the_permits_that_they_get) {
  engine->permit = 5;
  map(got.handler(), &twice, std::vector{1, 2, 3});
  EXPECT_THAT(engine->calls, ElementsAre("acquire", "submit to 5", "acquire", "submit to 5"));
  do_all_tasks();
  EXPECT_THAT(got.values, ElementsAre(2, 4, 6));
  EXPECT_EQ(engine->count("submit to 5"), 3);
  EXPECT_EQ(releases(), 0);
}

TEST_F(maps_with_a_bound, ask_for_no_permit_for_an_empty_range) {
  map(got.handler(), &twice, std::vector<int>());
  EXPECT_EQ(engine->count("acquire"), 0);
  EXPECT_EQ(got.calls, 0);
  run();
  EXPECT_EQ(got.calls, 1);
  EXPECT_FALSE(got.error);
}

// The elements go to whichever chunk has a permit first.
TEST_F(maps_with_a_bound, give_a_permit_back_once_when_the_range_is_exhausted) {
  map(got.handler(), &twice, std::vector{1});
  const auto second = std::to_string(engine->waiting(1).cancel_key);
  grant(7);
  EXPECT_EQ(releases(), 0);
  grant(8);
  EXPECT_EQ(engine->count("release 8 of " + second), 1);
  EXPECT_EQ(got.calls, 0);
  do_all_tasks();
  EXPECT_EQ(got.calls, 1);
  EXPECT_THAT(got.values, ElementsAre(2));
  EXPECT_EQ(submits(), 1);
  EXPECT_EQ(releases(), 1);
}

TEST_F(maps_with_a_bound, do_what_the_engine_asks_for_when_a_permit_goes_back) {
  map(got.handler(), &twice, std::vector{1});
  grant(7);
  engine->hint = flush_hint::now;
  grant(8);
  EXPECT_EQ(releases_of(8), 1);
  EXPECT_EQ(engine->count("flush"), 1);
  do_all_tasks();
}

TEST_F(maps_with_a_bound, give_a_permit_back_once_when_a_task_has_failed) {
  map(got.handler(), &twice_unless_negative, std::vector{-1, 2, 3});
  grant(7);
  do_task();
  EXPECT_EQ(engine->count("acquire"), 2);
  grant(8);
  EXPECT_EQ(releases_of(8), 1);
  EXPECT_EQ(submits(), 1);
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.element(), 0U);
  EXPECT_EQ(releases(), 1);
}

TEST_F(maps_with_a_bound, give_a_permit_back_once_that_comes_together_with_a_failure) {
  map(got.handler(), &twice_unless_negative, std::vector{-1, 2, 3});
  grant(7);
  turn([&] {
    engine->do_task();
    engine->grant(8);
  });
  EXPECT_EQ(releases_of(8), 1);
  EXPECT_EQ(submits(), 1);
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(releases(), 1);
}

TEST_F(maps_with_a_bound, give_a_permit_back_once_when_they_were_cancelled) {
  asio::cancellation_signal signal;
  map(asio::bind_cancellation_slot(signal.slot(), got.handler()), &twice, numbers(3, counting()));
  signal.emit(asio::cancellation_type::partial);
  io().poll();
  EXPECT_EQ(count_of_calls("cancel"), 2);
  // The engine has given them before it heard of the cancellation.
  grant(7);
  EXPECT_EQ(got.calls, 0);
  grant(8);
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), aborted);
  EXPECT_EQ(taken, 0);
  EXPECT_EQ(submits(), 0);
  EXPECT_EQ(releases_of(7), 1);
  EXPECT_EQ(releases_of(8), 1);
  EXPECT_EQ(releases(), 2);
}

TEST_F(maps_with_a_bound, give_a_permit_back_once_that_comes_when_the_range_throws) {
  bool fails = false;
  map(got.handler(), &twice, numbers(3, [&](access what, int) {
        if (what == access::end && std::exchange(fails, false)) throw range_failed();
      }));
  fails = true;
  grant(7);
  EXPECT_EQ(releases_of(7), 1);
  EXPECT_EQ(got.calls, 0);
  grant(8);
  EXPECT_EQ(releases_of(8), 1);
  EXPECT_EQ(releases(), 2);
  EXPECT_EQ(got.calls, 1);
  EXPECT_TRUE(got.failed_with<range_failed>());
}

TEST_F(maps_with_a_bound, end_with_the_error_that_ends_the_wait_for_a_permit) {
  map(got.handler(), &twice, numbers(3, counting()));
  turn([&] {
    for (int i = 0; i != 2; ++i) {
      engine->first_waiting().result.error = refused_with(errc::pool_broken);
      engine->end(engine->first_waiting());
    }
  });
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), errc::pool_broken);
  EXPECT_EQ(taken, 0);
  EXPECT_EQ(engine->count("acquire"), 2);
  EXPECT_EQ(releases(), 0) << "there was none";
}

TEST_F(maps_with_a_bound, give_the_permit_of_a_refused_submit_back_once_and_end_with_its_error) {
  map(got.handler(), &twice, std::vector{1, 2, 3});
  const auto first = std::to_string(engine->first_waiting().cancel_key);
  engine->refusal = refused_with(errc::array_busy);
  grant(7);
  EXPECT_EQ(engine->count("submit to 7"), 1);
  EXPECT_EQ(engine->count("release 7 of " + first), 1);
  EXPECT_EQ(got.calls, 0) << "the other chunk waits for its permit";
  grant(8);
  EXPECT_EQ(submits(), 1);
  EXPECT_EQ(releases_of(8), 1);
  EXPECT_EQ(releases(), 2);
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), errc::array_busy);
}

TEST_F(maps_with_a_bound, give_the_permit_back_once_that_they_got_at_once_and_cannot_use) {
  engine->permit = 5;
  engine->acquires.then([&] { engine->refusal = refused_with(errc::array_busy); });
  map(got.handler(), &twice, std::vector{1, 2, 3});
  EXPECT_THAT(engine->calls, ElementsAre("acquire", "submit to 5", StartsWith("release 5 of ")));
  EXPECT_EQ(got.calls, 0);
  run();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), errc::array_busy);
  EXPECT_EQ(releases(), 1);
}

// That of the engine comes first, and is of an element behind that of the task.
TEST_F(maps_with_a_bound, report_a_task_that_failed_before_the_element_of_a_refused_submit) {
  map(got.handler(), &twice_unless_negative, std::vector{-1, 2, 3});
  grant(7);
  engine->refusal = refused_with(errc::array_busy);
  grant(8);
  EXPECT_EQ(releases_of(8), 1);
  EXPECT_EQ(got.calls, 0);
  do_task();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.element(), 0U);
}

TEST_F(maps_with_a_bound, whose_first_permit_is_refused_post_the_error_and_wait_for_nothing) {
  engine->refusal = refused_with(errc::pool_closed);
  map(got.handler(), &twice, numbers(3, counting()));
  EXPECT_EQ(got.calls, 0);
  run();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), errc::pool_closed);
  EXPECT_EQ(engine->count("acquire"), 1);
  EXPECT_EQ(taken, 0);
  EXPECT_EQ(releases(), 0);
}

TEST_F(maps_with_a_bound, that_are_refused_a_permit_halfway_end_when_the_chunks_in_flight_have) {
  engine->permit = 5;
  map(got.handler(), &twice, std::vector{1, 2, 3});
  engine->refusal = refused_with(errc::pool_closed);
  do_task();
  EXPECT_EQ(engine->count("acquire"), 3);
  EXPECT_EQ(got.calls, 0);
  do_task();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), errc::pool_closed);
  EXPECT_EQ(submits(), 2);
  EXPECT_EQ(releases(), 0);
}

TEST_F(maps_with_a_bound, report_a_task_that_failed_before_the_element_of_a_refused_permit) {
  engine->permit = 5;
  map(got.handler(), &twice_unless_negative, std::vector{1, -2, 3});
  engine->refusal = refused_with(errc::pool_closed);
  do_all_tasks();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.element(), 1U);
}

// ---- Cancellation through a slot.

struct asked_for {
  const char* name;
  asio::cancellation_type type;
  const char* kind;
};

class map_signals : public maps, public ::testing::WithParamInterface<asked_for> {};

TEST_P(map_signals, ask_the_engine_for_every_chunk_in_flight) {
  asio::cancellation_signal signal;
  map(asio::bind_cancellation_slot(signal.slot(), got.handler()), &twice, std::vector{1, 2, 3, 4});
  const std::string first = "cancel " + std::to_string(engine->waiting(0).cancel_key) + " " + GetParam().kind;
  const std::string second = "cancel " + std::to_string(engine->waiting(1).cancel_key) + " " + GetParam().kind;
  EXPECT_NE(first, second);
  signal.emit(GetParam().type);
  EXPECT_EQ(count_of_calls("cancel"), 0) << "it may be emitted where nothing may be called";
  io().poll();
  EXPECT_EQ(engine->count(first), 1);
  EXPECT_EQ(engine->count(second), 1);
  EXPECT_EQ(count_of_calls("cancel"), 2);
}

TEST_P(map_signals, ask_the_engine_for_every_chunk_that_waits_for_a_permit) {
  engine->has_bound = true;
  asio::cancellation_signal signal;
  map(asio::bind_cancellation_slot(signal.slot(), got.handler()), &twice, std::vector{1, 2, 3, 4});
  grant(7);
  const std::string held = "cancel " + std::to_string(engine->waiting(0).cancel_key) + " " + GetParam().kind;
  const std::string running = "cancel " + std::to_string(engine->waiting(1).cancel_key) + " " + GetParam().kind;
  signal.emit(GetParam().type);
  io().poll();
  EXPECT_EQ(engine->count(held), 1);
  EXPECT_EQ(engine->count(running), 1);
}

TEST_P(map_signals, let_nothing_more_be_submitted) {
  asio::cancellation_signal signal;
  map(asio::bind_cancellation_slot(signal.slot(), got.handler()), &twice, std::vector{1, 2, 3, 4});
  signal.emit(GetParam().type);
  io().poll();
  do_task();
  EXPECT_EQ(submits(), 2);
  EXPECT_EQ(got.calls, 0);
  turn([&] { engine->abort(engine->first_waiting()); });
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), aborted);
  EXPECT_THAT(got.values, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(each, map_signals,
                         ::testing::Values(asked_for{"partial", asio::cancellation_type::partial, "partial"},
                                           asked_for{"terminal", asio::cancellation_type::terminal, "terminal"},
                                           asked_for{"partial_or_total",
                                                     asio::cancellation_type::partial | asio::cancellation_type::total,
                                                     "partial"},
                                           asked_for{"all", asio::cancellation_type::all, "terminal"}),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST_F(maps, ignore_a_total_cancellation) {
  asio::cancellation_signal signal;
  map(asio::bind_cancellation_slot(signal.slot(), got.handler()), &twice, std::vector{1, 2, 3, 4});
  signal.emit(asio::cancellation_type::total);
  io().poll();
  EXPECT_EQ(count_of_calls("cancel"), 0);
  do_all_tasks();
  EXPECT_EQ(got.calls, 1);
  EXPECT_FALSE(got.error);
  EXPECT_THAT(got.values, ElementsAre(2, 4, 6, 8));
}

TEST_F(maps, that_are_cancelled_harder_afterwards_tell_the_engine_again) {
  asio::cancellation_signal signal;
  map(asio::bind_cancellation_slot(signal.slot(), got.handler()), &twice, std::vector{1, 2});
  const auto second = std::to_string(engine->waiting(1).cancel_key);
  signal.emit(asio::cancellation_type::partial);
  io().poll();
  turn([&] { engine->abort(engine->first_waiting()); });
  signal.emit(asio::cancellation_type::terminal);
  io().poll();
  EXPECT_EQ(count_of_calls("cancel"), 3);
  EXPECT_EQ(engine->count("cancel " + second + " terminal"), 1) << "only that one is in flight";
}

TEST_F(maps, of_which_one_chunk_was_aborted_are_aborted_though_the_others_have_ended_well) {
  asio::cancellation_signal signal;
  map(asio::bind_cancellation_slot(signal.slot(), got.handler()), &twice, std::vector{1, 2});
  signal.emit(asio::cancellation_type::terminal);
  io().poll();
  turn([&] { engine->abort(engine->waiting(1)); });
  do_task();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), aborted);
  EXPECT_THAT(got.values, IsEmpty());
}

TEST_F(maps, that_are_cancelled_succeed_if_all_results_arrive_nonetheless) {
  asio::cancellation_signal signal;
  map(asio::bind_cancellation_slot(signal.slot(), got.handler()), &twice, std::vector{1, 2});
  signal.emit(asio::cancellation_type::terminal);
  io().poll();
  do_all_tasks();
  EXPECT_EQ(got.calls, 1);
  EXPECT_FALSE(got.error);
  EXPECT_THAT(got.values, ElementsAre(2, 4));
}

TEST_F(maps, take_their_handler_out_of_the_slot_before_they_call) {
  asio::cancellation_signal signal;
  bool empty = false;
  map(asio::bind_cancellation_slot(signal.slot(),
                                   [&](std::exception_ptr, std::vector<int>) { empty = !signal.slot().has_handler(); }),
      &twice, std::vector{1});
  EXPECT_TRUE(signal.slot().has_handler());
  do_all_tasks();
  EXPECT_TRUE(empty);
}

TEST_F(maps, ignore_a_signal_after_the_context_is_gone) {
  asio::cancellation_signal signal;
  map(asio::bind_cancellation_slot(signal.slot(), got.handler()), &twice, std::vector{1});
  context.reset();
  signal.emit(asio::cancellation_type::terminal);
  EXPECT_EQ(count_of_calls("cancel"), 0);
}

// The posted cancellation holds the map, which has completed when it comes.
TEST_F(maps, ignore_a_cancellation_that_comes_after_the_end) {
  asio::cancellation_signal signal;
  map(asio::bind_cancellation_slot(signal.slot(), got.handler()), &twice, std::vector{1});
  turn([&] {
    engine->do_task();
    signal.emit(asio::cancellation_type::terminal);
  });
  EXPECT_EQ(got.calls, 1);
  EXPECT_FALSE(got.error);
  EXPECT_EQ(count_of_calls("cancel"), 0);
}

// ---- The end of the context.

class maps_that_lose_their_context : public maps {
 protected:
  /// A handler, a range, and in them what says whether they are alive.
  void map_with_tokens() {
    auto in_handler = std::make_shared<int>(1);
    auto in_range = std::make_shared<int>(1);
    handler = in_handler;
    range = in_range;
    map([token = std::move(in_handler)](std::exception_ptr, std::vector<int>) { ADD_FAILURE() << "nobody runs it"; },
        &twice, numbers(5, [token = std::move(in_range)](access, int) {}));
    EXPECT_FALSE(handler.expired());
    EXPECT_FALSE(range.expired());
  }
  void expect_nothing_left() {
    context.reset();
    EXPECT_TRUE(handler.expired());
    EXPECT_TRUE(range.expired());
    EXPECT_EQ(engine->waiting_count(), 0U);
    const std::weak_ptr<detail::pool_driver> driver = pool;
    pool.reset();
    EXPECT_TRUE(driver.expired());
    EXPECT_EQ(engine.use_count(), 1);
  }

  std::weak_ptr<int> handler, range;
};

TEST_F(maps_that_lose_their_context, are_destroyed_while_their_chunks_are_in_flight) {
  map_with_tokens();
  expect_nothing_left();
}

TEST_F(maps_that_lose_their_context, are_destroyed_while_their_chunks_wait_for_permits) {
  engine->has_bound = true;
  map_with_tokens();
  expect_nothing_left();
  EXPECT_EQ(submits(), 0);
}

TEST_F(maps_that_lose_their_context, are_destroyed_halfway) {
  map_with_tokens();
  do_task();
  EXPECT_EQ(submits(), 3);
  expect_nothing_left();
}

TEST_F(maps_that_lose_their_context, are_destroyed_with_chunks_that_have_ended_and_are_not_delivered) {
  map_with_tokens();
  engine->do_task();
  expect_nothing_left();
}

TEST_F(maps_that_lose_their_context, are_destroyed_with_chunks_whose_delivery_is_posted) {
  engine->hint = flush_hint::now;
  engine->flushes.then([&] {
    engine->do_task();
    engine->do_task();
  });
  map_with_tokens();
  expect_nothing_left();
}

TEST_F(maps_that_lose_their_context, are_destroyed_with_a_completion_that_is_posted) {
  auto token = std::make_shared<int>(1);
  handler = token;
  map([token = std::move(token)](std::exception_ptr, std::vector<int>) { ADD_FAILURE() << "nobody runs it"; }, &twice,
      std::vector<int>());
  EXPECT_FALSE(handler.expired());
  expect_nothing_left();
}

TEST_F(maps_that_lose_their_context, are_destroyed_with_a_cancellation_that_is_posted) {
  asio::cancellation_signal signal;
  auto token = std::make_shared<int>(1);
  const std::weak_ptr<int> alive = token;
  map(asio::bind_cancellation_slot(
          signal.slot(),
          [token = std::move(token)](std::exception_ptr, std::vector<int>) { ADD_FAILURE() << "nobody runs it"; }),
      &twice, std::vector{1, 2});
  signal.emit(asio::cancellation_type::terminal);
  context.reset();
  EXPECT_TRUE(alive.expired());
  EXPECT_EQ(count_of_calls("cancel"), 0);
}

// ---- What was wrong.

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

// chunk_size() asked the range for its size outside of every try: the chunk stayed in in_flight_ although it was gone,
// so that the map never completed and its handler was destroyed.
TEST_F(maps, end_with_what_the_size_of_the_range_throws) {
  map(got.handler(), &twice, sized_numbers(6, fail_at(access::size, 6)));
  do_all_tasks();
  EXPECT_EQ(got.calls, 1);
  EXPECT_TRUE(got.failed_with<range_failed>());
}

// As above, from use(), which step() calls outside of its try: the exception left run().
TEST_F(maps_with_a_bound, end_with_what_the_size_of_the_range_throws_when_there_is_a_permit) {
  map(got.handler(), &twice, sized_numbers(6, fail_at(access::size, 6)));
  grant(7);
  do_task();
  EXPECT_NO_THROW(grant(8));
  EXPECT_EQ(releases_of(8), 1);
  EXPECT_EQ(got.calls, 0);
  ASSERT_NE(engine->waiting_count(), 0U);
  EXPECT_NO_THROW(grant(9));
  EXPECT_EQ(releases_of(9), 1);
  EXPECT_EQ(got.calls, 1);
  EXPECT_TRUE(got.failed_with<range_failed>());
}

// The loop over the chunks in flight was left by what driver_->cancel() threw: the others went on as if nothing was.
TEST_F(maps, are_cancelled_wholly_though_the_cancellation_of_one_chunk_fails) {
  asio::cancellation_signal signal;
  map(asio::bind_cancellation_slot(signal.slot(), got.handler()), &twice, std::vector{1, 2, 3});
  engine->hint = flush_hint::now;
  engine->flushes.then([] { throw std::bad_alloc(); });
  signal.emit(asio::cancellation_type::terminal);
  try {
    io().poll();
  } catch (const std::bad_alloc&) {
  }
  EXPECT_EQ(count_of_calls("cancel"), 2);
  engine->hint = flush_hint::none;
  do_all_tasks();
  EXPECT_EQ(got.calls, 1);
}

// proceed() finished only if work_.run() returned: what an earlier step() of the same run had thrown cost the handler.
TEST_F(maps, complete_though_an_exception_leaves_the_run_in_which_they_end) {
  asio::cancellation_signal signal;
  map(asio::bind_cancellation_slot(signal.slot(), got.handler()), &twice, std::vector{1});
  engine->hint = flush_hint::now;
  engine->flushes.then([&] {
    engine->hint = flush_hint::none;
    turn([&] { engine->abort(engine->first_waiting()); });  // the chunk comes back meanwhile
    throw std::bad_alloc();
  });
  signal.emit(asio::cancellation_type::terminal);
  try {
    io().poll();
  } catch (const std::bad_alloc&) {
  }
  waits();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), aborted);
}

}  // namespace
}  // namespace shmpool
