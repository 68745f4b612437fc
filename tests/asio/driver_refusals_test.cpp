// An executor that refuses, or destroys, what the driver gives it: each was a bug. What was to be done is done later,
// or by the next call, and no operation ends twice.
#include "asio/driver_fixture.hpp"
#include "asio/fake_engine.hpp"

#include <shmpool/detail/asio/submit_operation.hpp>
#include <shmpool/process_pool.hpp>

#include <chrono>
#include <exception>
#include <new>

namespace shmpool {
namespace {

using namespace std::chrono_literals;
using namespace shmpool::testing;
using detail::flush_hint;
using ::testing::ElementsAre;

int one() {
  return 1;
}

class driver_refusals : public driver_fixture {
 protected:
  void refuse_next() { all.accepts = 0; }
  refusals all;
};

// flush_soon() left flush_posted_ set when the executor threw: what said soon later was never flushed, for good.
TEST_F(driver_refusals, a_flush_that_could_not_be_posted_is_posted_for_the_next_call) {
  on(refusing_executor(io(), all));
  refuse_next();
  try {
    pool->react(flush_hint::soon);
  } catch (const std::bad_alloc&) {
  }
  const auto before = engine->count("flush");
  pool->react(flush_hint::soon);
  run();
  EXPECT_EQ(engine->count("flush"), before + 1);
}

// The engine had taken the operation over when react() threw, so the handler was called later although submit() had
// thrown. Compare fault/memory/failing_allocations_test.cpp: one of the two.
TEST_F(driver_refusals, a_submit_that_throws_does_not_call_its_handler_too) {
  on(refusing_executor(io(), all));
  using call = detail::task_for<decltype(&one)>;
  int calls = 0, thrown = 0;
  engine->hint = flush_hint::soon;
  refuse_next();
  try {
    const detail::initiate_submit<net::any_io_executor> initiate{pool, pool->executor()};
    initiate([&](std::exception_ptr, int) { ++calls; }, &one, call::ref(&one), &call::decode_result, task_options{},
             detail::store_arguments<decltype(&one)>());
  } catch (const std::bad_alloc&) {
    ++thrown;
  }
  pool->close();
  run();
  EXPECT_EQ(calls + thrown, 1);
}

// on_readable was gone without a call, and waiting_ stayed set: nobody waited for the descriptor any more.
TEST_F(driver_refusals, a_wait_whose_handler_the_executor_refuses_begins_anew_with_the_next_operation) {
  on(refusing_executor(io(), all));
  auto& a = start("a");
  pool->react(flush_hint::none);
  engine->ring();
  refuse_next();
  EXPECT_THROW(io().run(), std::bad_alloc);
  engine->drains.then([&] { engine->end(a); });
  pool->react(flush_hint::none);
  engine->ring();
  EXPECT_FALSE(waits());
  EXPECT_TRUE(a.called());
}

// As above, with retry_set_.
TEST_F(driver_refusals, a_retry_that_the_executor_refuses_is_set_anew_by_the_next_call) {
  on(refusing_executor(io(), all));
  engine->retry = 1ms;
  pool->react(flush_hint::now);
  refuse_next();
  EXPECT_THROW(io().run(), std::bad_alloc);
  engine->drains.then([&] { engine->retry = 0ms; });
  pool->react(flush_hint::now);
  run();
  EXPECT_EQ(engine->count("drain"), 1);
}

}  // namespace
}  // namespace shmpool
