// What becomes of operations, notices and polls when the executor refuses what the driver gives it. The engine is the
// test's: no process.
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

}  // namespace
}  // namespace shmpool
