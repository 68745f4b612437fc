// The driver and its engine at the end: of the context, of the pool, in a forked copy; and what it passes on. The
// engine is the test's: no process but for the one that a test forks.
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

// ---- What is passed on to the engine.

TEST_F(driver_fixture, passes_a_cancellation_on_with_its_key_and_kind) {
  pool->cancel(7, cancel_kind::total);
  pool->cancel(8, cancel_kind::partial);
  pool->cancel(9, cancel_kind::terminal);
  EXPECT_THAT(engine->calls, ElementsAre("cancel 7 total", "cancel 8 partial", "cancel 9 terminal"));
}

TEST_F(driver_fixture, does_what_a_cancellation_leaves_to_be_done) {
  engine->hint = flush_hint::now;
  pool->cancel(7, cancel_kind::total);
  EXPECT_EQ(engine->count("flush"), 1);
}

TEST_F(driver_fixture, posts_what_stop_has_aborted) {
  auto& a = start("a");
  pool->stop();
  EXPECT_EQ(engine->count("stop"), 1);
  EXPECT_FALSE(a.called());
  run();
  EXPECT_TRUE(a.called() && a.result.aborted);
}

// Nothing waits for the descriptor then, so nobody has heard what has become of the workers.
TEST_F(driver_fixture, drains_before_it_tells_the_stats_of_a_pool_that_nobody_waits_for) {
  static_cast<void>(pool->stats());
  EXPECT_EQ(engine->count("drain"), 1);
}

TEST_F(driver_fixture, leaves_the_draining_to_the_loop_when_stats_are_asked_for_meanwhile) {
  start("a");
  pool->react(flush_hint::none);
  static_cast<void>(pool->stats());
  EXPECT_EQ(engine->count("drain"), 0);
}

// ---- The end of the execution context.

class dead_contexts : public driver_fixture {};

TEST_F(dead_contexts, destroy_what_is_under_way_has_ended_or_is_posted) {
  auto& under_way = start("under way");
  pool->react(flush_hint::none);
  auto& posted = make("posted");
  engine->flushes.then(end(posted));
  pool->react(flush_hint::now);
  auto& ended = make("ended");
  engine->end(ended);
  context.reset();
  EXPECT_TRUE(under_way.destroyed() && posted.destroyed() && ended.destroyed());
  EXPECT_THAT(heard, IsEmpty());
}

TEST_F(dead_contexts, tell_nothing_more) {
  engine->tell(notice_of("half"));
  context.reset();
  pool->close();
  EXPECT_THAT(heard, IsEmpty());
}

TEST_F(dead_contexts, close_the_engine) {
  context.reset();
  EXPECT_EQ(engine->count("close"), 1);
}

TEST_F(dead_contexts, make_what_needs_one_throw_pool_closed) {
  EXPECT_NO_THROW(pool->require_context());
  context.reset();
  try {
    pool->require_context();
    ADD_FAILURE() << "there is no context any more";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), errc::pool_closed);
  }
}

TEST_F(dead_contexts, are_not_needed_to_ask_for_stats_to_stop_and_to_close) {
  context.reset();
  static_cast<void>(pool->stats());
  pool->stop();
  pool->cancel(1, cancel_kind::total);
  pool->close();
  EXPECT_EQ(engine->count("stop"), 1);
  EXPECT_EQ(engine->count("cancel 1 total"), 1);
  EXPECT_EQ(engine->count("close"), 2);
}

TEST_F(dead_contexts, get_no_timer_of_what_the_kernel_has_refused) {
  context.reset();
  engine->retry = 1ms;
  pool->react(flush_hint::now);
  EXPECT_EQ(engine->count("drain"), 0);
}

TEST_F(dead_contexts, leave_operations_that_end_later_to_close) {
  context.reset();
  auto& late = make("late");
  engine->end(late);
  pool->close();
  EXPECT_TRUE(late.destroyed());
}

TEST_F(dead_contexts, keep_nothing_of_a_pool_that_is_gone) {
  start("a");
  pool->react(flush_hint::none);
  const std::weak_ptr<detail::pool_driver> driver = pool;
  pool.reset();
  EXPECT_FALSE(driver.expired()) << "the wait keeps it";
  context.reset();
  EXPECT_TRUE(driver.expired());
}

// ---- close().

class close_of_a_pool : public driver_fixture {};

TEST_F(close_of_a_pool, posts_what_has_ended_and_what_it_aborts) {
  auto& a = start("a");
  pool->react(flush_hint::none);
  auto& b = make("b");
  engine->end(b);
  pool->close();
  EXPECT_THAT(heard, IsEmpty());
  run();
  EXPECT_THAT(heard, ElementsAre("b", "a"));
  EXPECT_TRUE(a.result.aborted);
  EXPECT_FALSE(b.result.aborted);
}

TEST_F(close_of_a_pool, ends_the_wait) {
  start("a");
  pool->react(flush_hint::none);
  io().poll();
  pool->close();
  engine->ring();
  EXPECT_FALSE(waits());
  EXPECT_EQ(engine->count("drain"), 0);
}

// Asio has posted both turns, as the executor is not its own. The first closes the pool of the second.
TEST_F(close_of_a_pool, makes_nothing_of_a_turn_that_is_on_its_way) {
  refusals none;
  on(refusing_executor(io(), none));
  const auto other_engine = std::make_shared<fake_engine>();
  const auto other_pool = detail::pool_driver::make(refusing_executor(io(), none), other_engine);
  auto& a = start("a");
  auto& b = make("b");
  other_engine->take(b);
  engine->drains.then([&] {
    engine->end(a);
    other_pool->close();
  });
  other_engine->drains.then([&] {
    other_engine->end(b);
    pool->close();
  });
  pool->react(flush_hint::none);
  other_pool->react(flush_hint::none);
  engine->ring();
  other_engine->ring();
  run();
  EXPECT_EQ(engine->count("drain") + other_engine->count("drain"), 1);
  EXPECT_TRUE(a.called() && b.called());
  EXPECT_NE(a.result.aborted, b.result.aborted);
}

TEST_F(close_of_a_pool, leaves_nothing_that_keeps_the_engine_when_all_handlers_have_run) {
  start("a");
  engine->is_polling = true;
  pool->react(flush_hint::soon);
  pool->react(flush_hint::now);
  pool->close();
  pool.reset();
  const std::weak_ptr<fake_engine> left = engine;
  engine.reset();
  run();
  EXPECT_TRUE(left.expired());
}

TEST_F(close_of_a_pool, ends_the_polling) {
  engine->is_polling = true;
  pool->react(flush_hint::now);
  pool->close();
  run();
  EXPECT_LE(engine->count("poll"), 1) << "one was posted already";
}

TEST_F(close_of_a_pool, may_be_called_by_a_handler) {
  auto& a = start("a", [&] { pool->close(); });
  auto& b = start("b");
  engine->drains.then(end(a));
  pool->react(flush_hint::none);
  engine->ring();
  run();
  EXPECT_THAT(heard, ElementsAre("a", "b"));
  EXPECT_TRUE(b.result.aborted);
}

// ---- A copy in a process that the application has forked.

class inert_copies : public driver_fixture {
 protected:
  inert_copies() { engine->is_inert = true; }
};

TEST_F(inert_copies, wait_for_nothing) {
  start("a");
  pool->react(flush_hint::none);
  pool->react(flush_hint::now);
  EXPECT_FALSE(waits());
}

TEST_F(inert_copies, take_no_operations_which_are_those_of_another_process) {
  auto& a = make("a");
  engine->end(a);
  pool->react(flush_hint::now);
  pool->cancel(1, cancel_kind::total);
  static_cast<void>(pool->stats());
  pool->close();
  io().poll();
  EXPECT_FALSE(a.over());
  EXPECT_EQ(engine->count("take_completed"), 0);
}

TEST_F(inert_copies, drain_nothing_for_stats) {
  static_cast<void>(pool->stats());
  EXPECT_EQ(engine->count("drain"), 0);
}

// Asio's epoll instance is shared with the parent: to deregister the descriptor in the child would be to deregister the
// parent's.
TEST_F(driver_fixture, that_a_child_process_closes_still_waits_in_the_parent) {
  auto& a = start("a");
  pool->react(flush_hint::none);
  io().poll();
  EXPECT_EQ(in_child([&] {
              engine->is_inert = true;
              pool->stop();
              pool->close();
              pool.reset();
              return engine->count("stop") == 0 && !a.over() ? 0 : 1;
            }),
            0);
  engine->drains.then(end(a));
  engine->ring();
  run();
  EXPECT_TRUE(a.called());
}

}  // namespace
}  // namespace shmpool
