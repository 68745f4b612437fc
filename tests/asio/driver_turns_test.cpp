// The driver's turns of the loop: when the descriptor is waited for, when it flushes, polls and tries again. The engine
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

// ---- The wait for the descriptor.

class the_wait : public driver_fixture {};

TEST_F(the_wait, begins_when_an_operation_starts_and_ends_with_it) {
  auto& a = start("a");
  pool->react(flush_hint::none);
  EXPECT_TRUE(waits());
  engine->drains.then(end(a));
  engine->ring();
  run();
  EXPECT_TRUE(a.called());
}

TEST_F(the_wait, is_none_while_nobody_waits_for_a_completion) {
  EXPECT_FALSE(waits());
  pool->react(flush_hint::none);
  EXPECT_FALSE(waits());
  pool->react(flush_hint::now);
  EXPECT_FALSE(waits());
  engine->ring();
  EXPECT_FALSE(waits());
  EXPECT_EQ(engine->count("drain"), 0);
}

TEST_F(the_wait, ends_when_the_last_operation_ends_though_the_descriptor_is_silent) {
  auto& a = start("a");
  pool->react(flush_hint::none);
  EXPECT_TRUE(waits());
  engine->flushes.then(end(a));
  pool->react(flush_hint::now);
  run();
  EXPECT_TRUE(a.called());
  EXPECT_EQ(engine->count("drain"), 0);
}

TEST_F(the_wait, goes_on_until_the_last_of_several_has_ended) {
  auto& a = start("a");
  auto& b = start("b");
  pool->react(flush_hint::none);
  engine->drains.then(end(a));
  engine->ring();
  EXPECT_TRUE(waits());
  EXPECT_TRUE(a.called());
  engine->drains.then(end(b));
  engine->ring();
  run();
  EXPECT_TRUE(b.called());
}

TEST_F(the_wait, is_one_for_many_operations) {
  auto& a = start("a");
  pool->react(flush_hint::none);
  auto& b = start("b");
  pool->react(flush_hint::none);
  pool->react(flush_hint::now);
  engine->drains.then(end(a, b));
  engine->ring();
  run();
  EXPECT_EQ(engine->count("drain"), 1);
}

TEST_F(the_wait, begins_anew_after_an_idle_time) {
  for (int round = 0; round != 3; ++round) {
    auto& a = start("a");
    pool->react(flush_hint::none);
    engine->drains.then(end(a));
    engine->ring();
    run();
    EXPECT_TRUE(a.called());
  }
}

// The wait is being ended, and its handler is on its way, when somebody waits again.
TEST_F(the_wait, begins_anew_for_an_operation_that_starts_while_it_is_ended) {
  auto& a = start("a");
  pool->react(flush_hint::none);
  io().poll();
  engine->flushes.then(end(a));
  pool->react(flush_hint::now);
  auto& b = start("b");
  pool->react(flush_hint::none);
  EXPECT_TRUE(waits());
  engine->drains.then(end(b));
  engine->ring();
  run();
  EXPECT_THAT(heard, ElementsAre("a", "b"));
}

TEST_F(the_wait, that_begins_anew_sees_what_was_there_before_it) {
  auto& a = start("a");
  pool->react(flush_hint::none);
  io().poll();
  engine->flushes.then(end(a));
  pool->react(flush_hint::now);
  auto& b = start("b");
  pool->react(flush_hint::none);
  engine->drains.then(end(b));
  engine->ring();
  run();
  EXPECT_TRUE(b.called());
}

// ---- Flushes.

class flushes : public driver_fixture {};

TEST_F(flushes, are_at_once_where_the_engine_says_now) {
  pool->react(flush_hint::now);
  EXPECT_EQ(engine->count("flush"), 1);
}

TEST_F(flushes, are_in_a_turn_of_the_loop_where_it_says_soon) {
  pool->react(flush_hint::soon);
  EXPECT_EQ(engine->count("flush"), 0);
  run();
  EXPECT_EQ(engine->count("flush"), 1);
}

TEST_F(flushes, are_one_for_all_that_say_soon_before_it) {
  for (int i = 0; i != 10; ++i) pool->react(flush_hint::soon);
  run();
  EXPECT_EQ(engine->count("flush"), 1);
}

TEST_F(flushes, come_again_for_those_who_say_soon_after_one) {
  pool->react(flush_hint::soon);
  run();
  pool->react(flush_hint::soon);
  run();
  EXPECT_EQ(engine->count("flush"), 2);
}

// What says soon while the flush is under way may have come too late for it.
TEST_F(flushes, come_again_for_those_who_say_soon_meanwhile) {
  engine->flushes.then([&] { pool->react(flush_hint::soon); });
  pool->react(flush_hint::soon);
  run();
  EXPECT_EQ(engine->count("flush"), 2);
}

TEST_F(flushes, are_none_where_the_engine_says_none) {
  start("a");
  pool->react(flush_hint::none);
  EXPECT_TRUE(waits());
  EXPECT_EQ(engine->count("flush"), 0);
}

TEST_F(flushes, complete_what_they_have_ended) {
  auto& a = start("a");
  engine->flushes.then(end(a));
  pool->react(flush_hint::soon);
  run();
  EXPECT_TRUE(a.called());
}

TEST_F(flushes, ask_for_nothing_if_they_have_ended_nothing) {
  start("a");
  pool->react(flush_hint::now);
  EXPECT_EQ(engine->count("flush"), 1);
  EXPECT_EQ(engine->count("take_completed"), 0);
  EXPECT_TRUE(waits());
}

// ---- Polling.

class polling : public driver_fixture {
 protected:
  /// Posts itself again and again, so that the test sees what comes in between.
  void post_others(int count) {
    if (count == 0) return;
    net::post(io(), [this, count] {
      heard.push_back("other");
      post_others(count - 1);
    });
  }
  auto stop_polling() {
    return [this] {
      heard.push_back("last poll");
      engine->is_polling = false;
    };
  }
};

TEST_F(polling, is_between_the_other_handlers) {
  engine->is_polling = true;
  engine->polls.then(say("poll")).then(say("poll")).then(stop_polling());
  pool->react(flush_hint::now);
  post_others(3);
  run();
  EXPECT_THAT(heard, ElementsAre("poll", "other", "poll", "other", "last poll", "other"));
}

TEST_F(polling, goes_on_as_long_as_the_engine_polls_and_no_longer) {
  engine->is_polling = true;
  for (int i = 0; i != 99; ++i) engine->polls.then([] {});
  engine->polls.then(stop_polling());
  pool->react(flush_hint::now);
  run();
  EXPECT_EQ(engine->count("poll"), 100);
  pool->react(flush_hint::now);
  run();
  EXPECT_EQ(engine->count("poll"), 100);
}

// A chain of operations cancelled and began the wait for the descriptor for each of them.
TEST_F(polling, keeps_the_wait_for_the_next_operation_and_ends_it_with_polling) {
  engine->is_polling = true;
  noted_operation& first = start("first");
  noted_operation& second = make("second");
  engine->polls.then(end(first))
      .then([&] { pool->expect_end(), engine->take(second); })
      .then(end(second))
      .then(stop_polling());
  pool->react(flush_hint::now);
  run();
  EXPECT_THAT(heard, ElementsAre("first", "second", "last poll"));
  // For each of the two ends, and when the wait ends: once, not for each operation.
  EXPECT_EQ(engine->count("take_completed"), 3);
  EXPECT_FALSE(waits()) << "nothing is outstanding any more";
}

// Where the application forks inside a handler, the copy must not wait for the parent's descriptor.
TEST_F(polling, leaves_no_wait_in_a_copy_that_was_forked_meanwhile) {
  engine->is_polling = true;
  noted_operation& only = start("only", [&] {
    engine->is_inert = true;  // as in the child of fork()
    engine->is_polling = false;
  });
  engine->polls.then(end(only));
  pool->react(flush_hint::now);
  run();
  EXPECT_THAT(heard, ElementsAre("only"));
  EXPECT_FALSE(waits());
}

TEST_F(polling, is_one_poll_for_all_that_ask_for_it) {
  engine->is_polling = true;
  engine->polls.then(stop_polling());
  for (int i = 0; i != 10; ++i) pool->react(flush_hint::now);
  run();
  EXPECT_EQ(engine->count("poll"), 1);
}

TEST_F(polling, never_is_inside_the_call_that_begins_it) {
  engine->is_polling = true;
  engine->polls.then(stop_polling());
  pool->react(flush_hint::now);
  EXPECT_EQ(engine->count("poll"), 0);
  run();
  EXPECT_EQ(engine->count("poll"), 1);
}

TEST_F(polling, completes_what_it_finds_in_the_same_turn) {
  auto& a = start("a");
  engine->is_polling = true;
  engine->polls.then(end(a));
  pool->react(flush_hint::now);
  EXPECT_EQ(io().run_one(), 1U);
  EXPECT_TRUE(a.called());
  engine->is_polling = false;
}

TEST_F(polling, goes_on_after_it_has_found_something) {
  auto& a = start("a");
  auto& b = start("b");
  engine->is_polling = true;
  engine->polls.then(end(a)).then(end(b)).then(stop_polling());
  pool->react(flush_hint::now);
  run();
  EXPECT_THAT(heard, ElementsAre("a", "b", "last poll"));
}

// Handlers may have something to send, whose replies the poll then finds.
TEST_F(polling, comes_after_the_handlers_of_what_has_ended_before) {
  auto& a = start("a");
  auto& b = start("b");
  engine->is_polling = true;
  engine->flushes.then(end(a, b));
  engine->polls.then(stop_polling());
  pool->react(flush_hint::now);
  run();
  EXPECT_THAT(heard, ElementsAre("a", "b", "last poll"));
}

TEST_F(polling, that_finds_nothing_takes_nothing) {
  engine->is_polling = true;
  engine->polls.then([] {}).then([] {}).then(stop_polling());
  pool->react(flush_hint::now);
  const auto before = engine->count("take_completed");
  run();
  EXPECT_EQ(engine->count("take_completed"), before);
}

// ---- What the kernel has refused is tried again.

class retries : public driver_fixture {
 protected:
  static constexpr auto delay = 5ms;
  auto succeed() {
    return [this] { engine->retry = 0ms; };
  }
};

TEST_F(retries, drain_after_the_time_though_the_descriptor_is_silent) {
  auto& a = start("a");
  engine->retry = delay;
  engine->drains.then([&] {
    engine->retry = 0ms;
    engine->end(a);
  });
  const auto begun = std::chrono::steady_clock::now();
  pool->react(flush_hint::now);
  run();
  EXPECT_GE(std::chrono::steady_clock::now() - begun, delay);
  EXPECT_TRUE(a.called());
  EXPECT_EQ(engine->count("drain"), 1);
}

TEST_F(retries, are_one_for_all_that_was_refused) {
  engine->retry = delay;
  engine->drains.then(succeed());
  for (int i = 0; i != 10; ++i) pool->react(flush_hint::now);
  run();
  EXPECT_EQ(engine->count("drain"), 1);
}

TEST_F(retries, go_on_until_the_kernel_takes_it) {
  engine->retry = delay;
  engine->drains.then([] {}).then([] {}).then(succeed());
  pool->react(flush_hint::now);
  run();
  EXPECT_EQ(engine->count("drain"), 3);
}

TEST_F(retries, are_none_where_nothing_was_refused) {
  pool->react(flush_hint::now);
  EXPECT_FALSE(waits());
  EXPECT_EQ(engine->count("drain"), 0);
}

}  // namespace
}  // namespace shmpool
