// map() against a fake engine: tasks that fail, an engine that refuses, and a range that throws. No process.
#include "asio/map_fixture.hpp"

#include <asio.hpp>

#include <chrono>
#include <ranges>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace shmpool {
namespace {

using namespace std::chrono_literals;
using namespace shmpool::testing;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

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

// chunk_size() asked the range for its size outside of every try: the chunk stayed in in_flight_ although it was gone,
// so that the map never completed and its handler was destroyed.
TEST_F(maps, end_with_what_the_size_of_the_range_throws) {
  map(got.handler(), &twice, sized_numbers(6, fail_at(access::size, 6)));
  do_all_tasks();
  EXPECT_EQ(got.calls, 1);
  EXPECT_TRUE(got.failed_with<range_failed>());
}

}  // namespace
}  // namespace shmpool
