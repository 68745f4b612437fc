// map() against a fake engine: cancellation, and what becomes of a map whose context goes away. No process.
#include "asio/map_fixture.hpp"

#include <asio.hpp>

#include <chrono>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

namespace shmpool {
namespace {

using namespace std::chrono_literals;
using namespace shmpool::testing;
using detail::flush_hint;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// ---- Cancellation through a slot.

class map_signals : public maps, public ::testing::WithParamInterface<cancellation_request> {};

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

INSTANTIATE_TEST_SUITE_P(
    each, map_signals,
    ::testing::Values(cancellation_request{"partial", asio::cancellation_type::partial, "partial"},
                      cancellation_request{"terminal", asio::cancellation_type::terminal, "terminal"},
                      cancellation_request{"partial_or_total",
                                           asio::cancellation_type::partial | asio::cancellation_type::total,
                                           "partial"},
                      cancellation_request{"all", asio::cancellation_type::all, "terminal"}),
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
