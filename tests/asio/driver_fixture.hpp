// A driver on a fake engine, operations that say what becomes of them, and an executor that may refuse.
//
// Thread safety: none; a test has one thread.
#pragma once

#include "api/pool_fixture.hpp"
#include "asio/fake_engine.hpp"

#include <shmpool/asio.hpp>
#include <shmpool/detail/asio/pool_driver.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace shmpool::testing {

/// An operation that outlives its end, so that a second end is a failure and not a crash.
class noted_operation final : public detail::operation {
 public:
  /// `handler` is called at its completion, after `name` was added to `heard`.
  noted_operation(std::string name, std::vector<std::string>& heard, std::function<void()> handler)
      : name_(std::move(name)), heard_(heard), handler_(std::move(handler)) {}

  void complete(detail::delivery) override {
    EXPECT_FALSE(over()) << name_ << " ends twice";
    called_ = true;
    heard_.push_back(name_);
    if (handler_) handler_();
  }
  void destroy() noexcept override {
    EXPECT_FALSE(over()) << name_ << " ends twice";
    destroyed_ = true;
  }

  const std::string& name() const noexcept { return name_; }
  bool called() const noexcept { return called_; }
  bool destroyed() const noexcept { return destroyed_; }
  bool over() const noexcept { return called_ || destroyed_; }

 private:
  std::string name_;
  std::vector<std::string>& heard_;
  std::function<void()> handler_;
  bool called_ = false, destroyed_ = false;
};

/// What a slot is asked for, and the kind of cancellation that the engine is asked for then.
struct cancellation_request {
  const char* name;
  net::cancellation_type type;
  const char* kind;
};

struct refusal_of_executor {};

/// When an executor refuses, and how.
struct refusals {
  std::exception_ptr why = std::make_exception_ptr(std::bad_alloc());
  std::optional<int> accepts;  ///< so many more functions, then it refuses one
  int refused = 0;

  void ask() {
    if (!accepts || (*accepts)-- != 0) return;
    accepts.reset();
    ++refused;
    std::rethrow_exception(why);
  }
};

class refusing_executor {
 public:
  refusing_executor(net::io_context& context, refusals& all) : inner_(context.get_executor()), all_(&all) {}

  net::execution_context& query(net::execution::context_t) const noexcept { return inner_.context(); }
  static constexpr net::execution::blocking_t query(net::execution::blocking_t) noexcept {
    return net::execution::blocking.never;
  }
  refusing_executor require(net::execution::blocking_t::never_t) const { return *this; }
  template <class Function>
  void execute(Function function) const {
    all_->ask();
    net::post(inner_, std::move(function));
  }
  friend bool operator==(const refusing_executor& a, const refusing_executor& b) noexcept {
    return a.inner_ == b.inner_ && a.all_ == b.all_;
  }

 private:
  net::io_context::executor_type inner_;
  refusals* all_;
};

class driver_fixture : public ::testing::Test {
 protected:
  /// An operation that nobody waits for yet.
  noted_operation& make(std::string name, std::function<void()> handler = {}) {
    return made.emplace_back(std::move(name), heard, std::move(handler));
  }
  /// One that is on its way to its end in the engine.
  noted_operation& start(std::string name, std::function<void()> handler = {}) {
    noted_operation& op = make(std::move(name), std::move(handler));
    engine->take(op);
    return op;
  }
  auto end(noted_operation& op) {
    return [this, &op] { engine->end(op); };
  }
  template <class... Others>
  auto end(noted_operation& first, Others&... others) {
    return [this, &first, &others...] {
      engine->end(first);
      (engine->end(others), ...);
    };
  }
  auto say(std::string what) {
    return [this, what = std::move(what)] { heard.push_back(what); };
  }
  /// Something to tell the user, which adds `what` to `heard`.
  detail::notice notice_of(std::string what) {
    return detail::notice(callback<void(double)>([say = say(std::move(what))](double) { say(); }), 0.5);
  }

  /// Runs what is due; true if run() would go on to wait.
  bool waits() {
    io().restart();
    io().poll();
    return !io().stopped();
  }
  void run() {
    io().restart();
    io().run();
  }
  /// Runs until nothing is outstanding; how many exceptions have left run().
  int run_through_exceptions() {
    for (int thrown = 0;; ++thrown) {
      try {
        run();
        return thrown;
      } catch (...) {
      }
    }
  }

  net::io_context& io() { return *context; }
  detail::pool_driver& on(net::any_io_executor executor) {
    pool.reset();  // Asio takes a descriptor once
    pool = detail::pool_driver::make(std::move(executor), engine);
    return *pool;
  }

  /// Whatever a test has done, in the end no operation is left.
  void TearDown() override {
    pool.reset();
    context.reset();
    engine.reset();
    for (const auto& each : made) EXPECT_TRUE(each.over()) << each.name() << " is lost";
  }

  watchdog guard{std::chrono::seconds(20)};
  std::vector<std::string> heard;
  std::deque<noted_operation> made;
  std::optional<net::io_context> context{std::in_place};
  std::shared_ptr<fake_engine> engine = std::make_shared<fake_engine>();
  std::shared_ptr<detail::pool_driver> pool = detail::pool_driver::make(context->get_executor(), engine);
};

}  // namespace shmpool::testing
