// What the driver of a pool makes of what its engine says: in which order completions come and from where, when the
// descriptor is waited for, what becomes of operations when the executor refuses or its context dies. The engine is the
// test's: no process but for the one that a test forks.
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

// ---- Executors that refuse.

struct refused_with {
  const char* name;
  std::exception_ptr why;
};

class refusing_executors : public driver_fixture, public ::testing::WithParamInterface<refused_with> {
 protected:
  refusing_executors() {
    on(refusing_executor(io(), all));
    all.why = GetParam().why;
  }
  bool is_why(const std::exception_ptr& thrown) const { return thrown == all.why; }
  /// What `call` throws.
  template <class Call>
  static std::exception_ptr thrown_by(Call call) {
    try {
      call();
      return nullptr;
    } catch (...) {
      return std::current_exception();
    }
  }

  refusals all;
};

TEST_P(refusing_executors, make_the_call_throw_that_has_something_to_post) {
  auto& a = start("a");
  engine->flushes.then(end(a));
  all.accepts = 0;
  EXPECT_TRUE(is_why(thrown_by([&] { pool->react(flush_hint::now); })));
  EXPECT_TRUE(a.destroyed());
}

TEST_P(refusing_executors, cost_what_was_not_posted_yet_which_is_destroyed_once) {
  auto& a = start("a");
  auto& b = start("b");
  auto& c = start("c");
  engine->flushes.then(end(a, b, c));
  all.accepts = 1;
  EXPECT_TRUE(is_why(thrown_by([&] { pool->react(flush_hint::now); })));
  run();
  EXPECT_THAT(heard, ElementsAre("a"));
  EXPECT_TRUE(b.destroyed() && c.destroyed());
}

TEST_P(refusing_executors, leave_nothing_called_of_a_turn_that_could_not_post_the_others) {
  auto& a = start("a");
  auto& b = start("b");
  pool->react(flush_hint::none);
  engine->drains.then([&] {
    end(a, b)();
    all.accepts = 0;
  });
  engine->ring();
  EXPECT_TRUE(is_why(thrown_by([&] { io().run(); })));
  run();
  EXPECT_THAT(heard, IsEmpty());
  EXPECT_TRUE(a.destroyed() && b.destroyed());
}

TEST_P(refusing_executors, stop_the_polling_as_nobody_may_come_for_it) {
  auto& a = start("a");
  engine->is_polling = true;
  engine->flushes.then(end(a));
  all.accepts = 0;
  EXPECT_TRUE(is_why(thrown_by([&] { pool->react(flush_hint::now); })));
  EXPECT_EQ(engine->count("stop_polling"), 1);
  run();
  EXPECT_EQ(engine->count("poll"), 0);
}

TEST_P(refusing_executors, do_not_end_the_wait_for_what_is_under_way) {
  auto& a = start("a");
  auto& b = start("b");
  engine->flushes.then(end(a));
  all.accepts = 0;
  EXPECT_TRUE(is_why(thrown_by([&] { pool->react(flush_hint::now); })));
  engine->drains.then(end(b));
  engine->ring();
  run();
  EXPECT_TRUE(b.called());
}

TEST_P(refusing_executors, stop_the_polling_when_it_is_the_poll_that_they_refuse) {
  engine->is_polling = true;
  all.accepts = 0;
  pool->react(flush_hint::now);
  EXPECT_EQ(all.refused, 1);
  EXPECT_EQ(engine->count("stop_polling"), 1);
  EXPECT_FALSE(engine->is_polling);
}

TEST_P(refusing_executors, are_asked_for_the_poll_again_when_the_engine_polls_again) {
  engine->is_polling = true;
  all.accepts = 0;
  pool->react(flush_hint::now);
  engine->is_polling = true;
  engine->polls.then([&] { engine->is_polling = false; });
  pool->react(flush_hint::now);
  run();
  EXPECT_EQ(engine->count("poll"), 1);
}

TEST_P(refusing_executors, cost_a_pool_that_closes_what_was_not_posted_yet) {
  start("a");
  auto& b = start("b");
  auto& c = start("c");
  all.accepts = 1;
  pool->close();
  run();
  EXPECT_THAT(heard, ElementsAre("a"));
  EXPECT_TRUE(b.destroyed() && c.destroyed());
}

INSTANTIATE_TEST_SUITE_P(each, refusing_executors,
                         ::testing::Values(refused_with{"bad_alloc", std::make_exception_ptr(std::bad_alloc())},
                                           refused_with{"own", std::make_exception_ptr(refusal_of_executor())}),
                         [](const auto& instance) { return std::string(instance.param.name); });

// What a task has said is worth less than its end.
TEST_F(driver_fixture, without_memory_for_a_notice_delivers_the_ends_nonetheless) {
  refusals all;
  on(refusing_executor(io(), all));
  auto& a = start("a");
  auto& b = start("b");
  engine->flushes.then([&] {
    engine->tell(notice_of("half of a"));
    engine->tell(notice_of("most of a"));
    end(a, b)();
  });
  all.accepts = 0;
  pool->react(flush_hint::now);
  run();
  EXPECT_THAT(heard, ElementsAre("most of a", "a", "b"));
}

// Any other exception is the application's to see. What was to be posted is gone then.
TEST_F(driver_fixture, throws_what_else_the_executor_throws_at_a_notice) {
  refusals all;
  all.why = std::make_exception_ptr(refusal_of_executor());
  on(refusing_executor(io(), all));
  auto& a = start("a");
  engine->flushes.then([&] {
    engine->tell(notice_of("half of a"));
    engine->end(a);
  });
  all.accepts = 0;
  EXPECT_THROW(pool->react(flush_hint::now), refusal_of_executor);
  run();
  EXPECT_THAT(heard, IsEmpty());
  EXPECT_TRUE(a.destroyed());
}

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
