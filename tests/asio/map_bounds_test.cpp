// map() against a fake engine that has a bound: when chunks take elements, and that every permit is used or goes back.
// No process.
#include "asio/map_fixture.hpp"

#include <asio.hpp>

#include <chrono>
#include <string>
#include <vector>

namespace shmpool {
namespace {

using namespace std::chrono_literals;
using namespace shmpool::testing;
using detail::flush_hint;
using ::testing::ElementsAre;
using ::testing::StartsWith;

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

}  // namespace
}  // namespace shmpool
