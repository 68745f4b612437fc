// In which order the driver completes what has ended, from where, and what handlers that throw do to others. The engine
// is the test's: no process.
#include "asio/driver_fixture.hpp"
#include "asio/fake_engine.hpp"

#include <unistd.h>

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace shmpool {
namespace {

using namespace std::chrono_literals;
using namespace shmpool::testing;
using detail::cancel_kind;
using detail::flush_hint;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// ---- The order of completions.

class deliveries : public driver_fixture {};

TEST_F(deliveries, come_in_the_order_in_which_operations_have_ended) {
  auto& a = start("a");
  auto& b = start("b");
  auto& c = start("c");
  engine->drains.then(end(b, c, a));
  pool->react(flush_hint::none);
  engine->ring();
  run();
  EXPECT_THAT(heard, ElementsAre("b", "c", "a"));
}

TEST_F(deliveries, call_the_first_in_the_turn_that_has_found_it) {
  auto& a = start("a");
  auto& b = start("b");
  engine->drains.then(end(a, b));
  pool->react(flush_hint::none);
  engine->ring();
  EXPECT_EQ(io().run_one(), 1U);
  EXPECT_THAT(heard, ElementsAre("a"));
}

// A handler may block until another thread, which runs the context, too, has called the others.
TEST_F(deliveries, have_the_others_posted_before_the_first_runs) {
  auto& a = start("a", [&] {
    io().poll();
    heard.push_back("end of a");
  });
  auto& b = start("b");
  auto& c = start("c");
  engine->drains.then(end(a, b, c));
  pool->react(flush_hint::none);
  engine->ring();
  run();
  EXPECT_THAT(heard, ElementsAre("a", "b", "c", "end of a"));
}

TEST_F(deliveries, tell_what_there_is_to_tell_before_the_ends_that_follow_it) {
  auto& a = start("a");
  engine->drains.then([&] {
    engine->end(a);
    engine->tell(notice_of("half of a"));
    engine->tell(notice_of("most of a"));
  });
  pool->react(flush_hint::none);
  engine->ring();
  run();
  EXPECT_THAT(heard, ElementsAre("half of a", "most of a", "a"));
}

TEST_F(deliveries, do_not_overtake_what_an_earlier_turn_had_to_tell) {
  auto& a = start("a");
  engine->flushes.then([&] { engine->tell(notice_of("half of a")); }).then(end(a));
  pool->react(flush_hint::soon);  // its turn comes before that of the notice
  pool->react(flush_hint::now);
  run();
  EXPECT_THAT(heard, ElementsAre("half of a", "a"));
}

TEST_F(deliveries, are_at_once_again_when_everything_was_heard) {
  auto& a = start("a");
  engine->drains.then([&] { engine->tell(notice_of("half of a")); }).then(end(a));
  pool->react(flush_hint::none);
  engine->ring();
  io().poll();
  ASSERT_THAT(heard, ElementsAre("half of a"));
  engine->ring();
  EXPECT_EQ(io().run_one(), 1U);
  EXPECT_THAT(heard, ElementsAre("half of a", "a"));
}

// ---- From inside the call that asks for it nothing is called.

struct initiating_call {
  const char* name;
  std::function<void(detail::pool_driver&)> make;
};

class initiating_calls : public driver_fixture, public ::testing::WithParamInterface<initiating_call> {};

TEST_P(initiating_calls, post_all_that_they_find) {
  auto& a = make("a");
  auto& b = make("b");
  engine->hint = flush_hint::now;
  engine->flushes.then([&] {
    engine->tell(notice_of("half of a"));
    engine->end(a);
    engine->end(b);
  });
  GetParam().make(*pool);
  EXPECT_THAT(heard, IsEmpty());
  run();
  EXPECT_THAT(heard, ElementsAre("half of a", "a", "b"));
}

// The handler of an operation that is called from a turn of the loop is inside the call, too.
TEST_P(initiating_calls, post_also_from_a_handler) {
  auto& b = make("b");
  auto& a = start("a", [&] {
    engine->flushes.then(end(b));
    GetParam().make(*pool);
    heard.push_back("end of a");
  });
  engine->hint = flush_hint::now;
  engine->drains.then(end(a));
  pool->react(flush_hint::none);
  engine->ring();
  run();
  EXPECT_THAT(heard, ElementsAre("a", "end of a", "b"));
}

INSTANTIATE_TEST_SUITE_P(
    each, initiating_calls,
    ::testing::Values(initiating_call{"react", [](detail::pool_driver& pool) { pool.react(flush_hint::now); }},
                      initiating_call{"cancel", [](detail::pool_driver& pool) { pool.cancel(1, cancel_kind::total); }},
                      initiating_call{"stop", [](detail::pool_driver& pool) { pool.stop(); }},
                      initiating_call{"stats", [](detail::pool_driver& pool) { static_cast<void>(pool.stats()); }}),
    [](const auto& instance) { return std::string(instance.param.name); });

// ---- Handlers that throw.

class throwing_handlers : public driver_fixture {
 protected:
  static void fail() { throw std::runtime_error("of a handler"); }
};

TEST_F(throwing_handlers, throw_out_of_run_one_by_one_and_lose_no_other) {
  auto& a = start("a", fail);
  auto& b = start("b");
  auto& c = start("c", fail);
  auto& d = start("d");
  engine->drains.then(end(a, b, c, d));
  pool->react(flush_hint::none);
  engine->ring();
  EXPECT_EQ(run_through_exceptions(), 2);
  EXPECT_THAT(heard, ElementsAre("a", "b", "c", "d"));
}

TEST_F(throwing_handlers, do_not_end_the_wait_for_what_is_under_way) {
  auto& a = start("a", fail);
  auto& b = start("b");
  engine->drains.then(end(a)).then(end(b));
  pool->react(flush_hint::none);
  engine->ring();
  EXPECT_THROW(io().run(), std::runtime_error);
  engine->ring();
  run();
  EXPECT_TRUE(b.called());
}

TEST_F(throwing_handlers, do_not_end_the_polling) {
  auto& a = start("a", fail);
  auto& b = start("b");
  engine->is_polling = true;
  engine->polls.then(end(a)).then([&] {
    engine->is_polling = false;
    engine->end(b);
  });
  pool->react(flush_hint::now);
  EXPECT_EQ(run_through_exceptions(), 1);
  EXPECT_THAT(heard, ElementsAre("a", "b"));
  EXPECT_EQ(engine->count("stop_polling"), 0);
}

TEST_F(throwing_handlers, of_notices_lose_no_end) {
  auto& a = start("a");
  engine->drains.then([&] {
    engine->tell(detail::notice(callback<void(double)>([](double) { fail(); }), 0.5));
    engine->end(a);
  });
  pool->react(flush_hint::none);
  engine->ring();
  EXPECT_EQ(run_through_exceptions(), 1);
  EXPECT_TRUE(a.called());
}

}  // namespace
}  // namespace shmpool
