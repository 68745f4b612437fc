// The initiations of submit() and shutdown() against a fake engine: what they ask of it, that handlers are never called
// from inside, and what becomes of them when the engine refuses or the context is gone.
#include "asio/driver_fixture.hpp"
#include "asio/fake_engine.hpp"

#include <shmpool/detail/asio/submit_operation.hpp>
#include <shmpool/process_pool.hpp>

#include <asio.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

namespace shmpool {
namespace {

using namespace shmpool::testing;
using detail::flush_hint;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::StartsWith;

int add(int a, int b) {
  return a + b;
}

std::exception_ptr refused_with(errc code) {
  return std::make_exception_ptr(std::system_error(code));
}

class initiations : public driver_fixture {
 protected:
  struct result {
    int calls = 0;
    std::exception_ptr error;
    int sum = 0;

    std::error_code code() const {
      try {
        if (error) std::rethrow_exception(error);
      } catch (const std::system_error& failed) {
        return failed.code();
      }
      return {};
    }
    auto handler() {
      return [this](std::exception_ptr failed, int value) {
        ++calls;
        error = failed;
        sum = value;
      };
    }
  };

  /// As process_pool::submit() does it.
  template <class Handler>
  void submit(Handler handler, int a, int b, const task_options& options = {}) {
    using function = decltype(&add);
    using call = detail::task_for<function, int, int>;
    const detail::initiate_submit<net::any_io_executor> initiate{pool, pool->executor()};
    initiate(std::move(handler), &add, call::ref(&add), &call::decode_result, options,
             detail::store_arguments<function, int, int>(std::move(a), std::move(b)));
  }
  template <class Handler>
  void shutdown(Handler handler) {
    detail::initiate_shutdown<net::any_io_executor>{pool, pool->executor()}(std::move(handler));
  }
  auto do_task() {
    return [this] { engine->do_task(); };
  }

  result got;
};

TEST_F(initiations, of_a_submit_lead_to_its_result) {
  submit(got.handler(), 40, 2);
  engine->drains.then(do_task());
  engine->ring();
  run();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.sum, 42);
}

// The task is done before submit() has returned, as one may be by another thread's hand.
TEST_F(initiations, call_no_handler_though_the_task_ends_inside) {
  engine->hint = flush_hint::now;
  engine->submits.then(do_task());
  submit(got.handler(), 40, 2);
  EXPECT_EQ(got.calls, 0);
  run();
  EXPECT_EQ(got.sum, 42);
}

TEST_F(initiations, call_no_handler_from_inside_one_that_submits) {
  engine->hint = flush_hint::now;
  engine->submits.then(do_task()).then(do_task());
  bool inside = false;
  submit(
      [&](std::exception_ptr, int sum) {
        inside = true;
        submit(
            [&](std::exception_ptr, int more) {
              EXPECT_FALSE(inside);
              got.sum = more;
            },
            sum, 2);
        inside = false;
      },
      39, 1);
  run();
  EXPECT_EQ(got.sum, 42);
}

TEST_F(initiations, that_the_engine_refuses_post_its_error) {
  engine->refusal = refused_with(errc::queue_full);
  submit(got.handler(), 1, 2);
  EXPECT_EQ(got.calls, 0);
  run();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), errc::queue_full);
}

TEST_F(initiations, with_a_deadline_that_makes_no_sense_post_its_error_and_ask_nothing_of_the_engine) {
  submit(got.handler(), 1, 2, task_options{.deadline = std::chrono::seconds(-1)});
  EXPECT_EQ(got.calls, 0);
  run();
  EXPECT_THROW(std::rethrow_exception(got.error), std::invalid_argument);
  EXPECT_THAT(engine->calls, ::testing::IsEmpty());
}

TEST_F(initiations, flush_once_for_all_submits_of_a_turn) {
  engine->hint = flush_hint::soon;
  engine->flushes.then([&] {
    for (int i = 0; i != 3; ++i) engine->do_task();
  });
  result others[2];
  submit(got.handler(), 1, 2);
  submit(others[0].handler(), 3, 4);
  submit(others[1].handler(), 5, 6);
  EXPECT_EQ(engine->count("flush"), 0);
  run();
  EXPECT_EQ(engine->count("flush"), 1);
  EXPECT_EQ(got.calls + others[0].calls + others[1].calls, 3);
}

TEST_F(initiations, of_a_shutdown_flush_at_once_and_complete_when_the_engine_says_so) {
  int calls = 0;
  shutdown([&](std::exception_ptr error) {
    EXPECT_FALSE(error);
    ++calls;
  });
  EXPECT_EQ(engine->count("flush"), 1);
  EXPECT_TRUE(waits());
  EXPECT_EQ(calls, 0);
  engine->drains.then([&] { engine->end(engine->first_waiting()); });
  engine->ring();
  run();
  EXPECT_EQ(calls, 1);
}

// ---- Where submits wait for room.

class initiations_with_a_bound : public initiations {
 protected:
  initiations_with_a_bound() { engine->has_bound = true; }
};

TEST_F(initiations_with_a_bound, submit_at_once_with_the_permit_that_they_get) {
  engine->permit = 5;
  submit(got.handler(), 40, 2);
  EXPECT_THAT(engine->calls, ElementsAre("acquire", "submit to 5"));
  engine->drains.then(do_task());
  engine->ring();
  run();
  EXPECT_EQ(got.sum, 42);
}

TEST_F(initiations_with_a_bound, submit_when_there_is_a_permit) {
  submit(got.handler(), 40, 2);
  EXPECT_THAT(engine->calls, ElementsAre("acquire"));
  engine->drains
      .then([&] {
        detail::operation& held = engine->first_waiting();
        held.result.permit = 6;
        engine->end(held);
      })
      .then(do_task());
  engine->ring();
  EXPECT_TRUE(waits());
  EXPECT_EQ(engine->count("submit to 6"), 1);
  EXPECT_EQ(got.calls, 0);
  engine->ring();
  run();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.sum, 42);
}

TEST_F(initiations_with_a_bound, end_with_the_error_that_ends_the_wait_and_submit_nothing) {
  submit(got.handler(), 40, 2);
  engine->drains.then([&] {
    detail::operation& held = engine->first_waiting();
    held.result.error = refused_with(errc::pool_broken);
    engine->end(held);
  });
  engine->ring();
  run();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), errc::pool_broken);
  EXPECT_THAT(engine->calls, ::testing::Not(Contains(StartsWith("submit"))));
}

TEST_F(initiations_with_a_bound, give_the_permit_back_that_they_cannot_use) {
  submit(got.handler(), 40, 2);
  engine->drains.then([&] {
    detail::operation& held = engine->first_waiting();
    held.result.permit = 6;
    engine->end(held);
    engine->refusal = refused_with(errc::array_busy);
  });
  engine->ring();
  run();
  EXPECT_EQ(engine->count("release 6 of 0"), 1);
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), errc::array_busy);
}

TEST_F(initiations_with_a_bound, post_the_error_with_which_a_permit_is_refused) {
  engine->refusal = refused_with(errc::pool_closed);
  submit(got.handler(), 40, 2);
  EXPECT_EQ(got.calls, 0);
  run();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), errc::pool_closed);
}

TEST_F(initiations_with_a_bound, are_destroyed_while_they_wait_for_a_permit) {
  auto token = std::make_shared<int>(1);
  const std::weak_ptr<int> alive = token;
  submit([token = std::move(token)](std::exception_ptr, int) { ADD_FAILURE() << "nobody runs it"; }, 40, 2);
  EXPECT_FALSE(alive.expired());
  context.reset();
  EXPECT_TRUE(alive.expired());
}

// ---- Cancellation through a slot.

class signals : public initiations, public ::testing::WithParamInterface<cancellation_request> {};

TEST_P(signals, ask_the_engine_with_the_key_of_the_operation_and_the_strongest_kind) {
  asio::cancellation_signal signal;
  submit(asio::bind_cancellation_slot(signal.slot(), got.handler()), 1, 2);
  const std::string call = "cancel " + std::to_string(engine->first_waiting().cancel_key) + " " + GetParam().kind;
  signal.emit(GetParam().type);
  EXPECT_EQ(engine->count(call), 0) << "it may be emitted where nothing may be called";
  io().poll();
  EXPECT_EQ(engine->count(call), 1);
}

INSTANTIATE_TEST_SUITE_P(
    each, signals,
    ::testing::Values(cancellation_request{"total", asio::cancellation_type::total, "total"},
                      cancellation_request{"partial", asio::cancellation_type::partial, "partial"},
                      cancellation_request{"terminal", asio::cancellation_type::terminal, "terminal"},
                      cancellation_request{"partial_or_total",
                                           asio::cancellation_type::partial | asio::cancellation_type::total,
                                           "partial"},
                      cancellation_request{"all", asio::cancellation_type::all, "terminal"}),
    [](const auto& instance) { return std::string(instance.param.name); });

TEST_F(initiations, without_a_slot_have_no_key) {
  submit(got.handler(), 1, 2);
  EXPECT_EQ(engine->first_waiting().cancel_key, 0U);
}

TEST_F(initiations, take_their_handler_out_of_the_slot_before_they_call) {
  asio::cancellation_signal signal;
  bool empty = false;
  submit(asio::bind_cancellation_slot(signal.slot(),
                                      [&](std::exception_ptr, int) { empty = !signal.slot().has_handler(); }),
         1, 2);
  EXPECT_TRUE(signal.slot().has_handler());
  engine->drains.then(do_task());
  engine->ring();
  run();
  EXPECT_TRUE(empty);
}

TEST_F(initiations, ignore_a_signal_after_the_context_is_gone) {
  asio::cancellation_signal signal;
  submit(asio::bind_cancellation_slot(signal.slot(), got.handler()), 1, 2);
  context.reset();
  signal.emit(asio::cancellation_type::terminal);
  EXPECT_THAT(engine->calls, ::testing::Not(Contains(StartsWith("cancel"))));
}

// ---- The end of the context, or of the pool.

TEST_F(initiations, throw_pool_closed_when_the_context_is_gone) {
  context.reset();
  const auto expect_closed = [](auto initiate) {
    try {
      initiate();
      ADD_FAILURE() << "there is nowhere to post the completion";
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code(), errc::pool_closed);
    }
  };
  expect_closed([&] { submit(got.handler(), 1, 2); });
  expect_closed([&] { shutdown([](std::exception_ptr) { ADD_FAILURE() << "nobody runs it"; }); });
  EXPECT_EQ(got.calls, 0);
}

TEST_F(initiations, leave_no_handler_behind_when_the_context_goes) {
  auto token = std::make_shared<int>(1);
  const std::weak_ptr<int> alive = token;
  const auto handler = [token = std::move(token)](std::exception_ptr, auto...) { ADD_FAILURE() << "nobody runs it"; };
  {
    auto mine = handler;
    submit(mine, 1, 2);
    engine->hint = flush_hint::now;
    engine->submits.then(do_task());
    submit(std::move(mine), 1, 2);
  }
  EXPECT_EQ(alive.use_count(), 3);
  context.reset();
  EXPECT_EQ(alive.use_count(), 1);
}

TEST_F(initiations, are_posted_as_aborted_when_the_pool_closes) {
  submit(got.handler(), 1, 2);
  pool->close();
  EXPECT_EQ(got.calls, 0);
  run();
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.code(), asio::error::make_error_code(asio::error::operation_aborted));
}

TEST_F(initiations, keep_the_context_of_their_handler_running) {
  asio::io_context other;
  submit(asio::bind_executor(other, got.handler()), 40, 2);
  other.poll();
  EXPECT_FALSE(other.stopped());
  engine->drains.then(do_task());
  engine->ring();
  run();
  EXPECT_EQ(got.calls, 0);
  other.run();
  EXPECT_EQ(got.sum, 42);
}

}  // namespace
}  // namespace shmpool
