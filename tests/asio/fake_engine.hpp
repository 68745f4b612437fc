// An engine without a pool: the test decides what ends and when, says what each call does, and sees which were made.
//
// Thread safety: none; a test has one thread.
#pragma once

#include <shmpool/detail/engine.hpp>
#include <shmpool/error.hpp>

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace shmpool::testing {

/// What the next calls of a function do, one step each; a call for which there is no step does nothing.
class script {
 public:
  script& then(std::function<void()> step) {
    steps_.push_back(std::move(step));
    return *this;
  }
  void play() {
    if (steps_.empty()) return;
    const auto step = std::move(steps_.front());
    steps_.pop_front();
    step();
  }

 private:
  std::deque<std::function<void()>> steps_;
};

class fake_engine final : public detail::engine {
 public:
  fake_engine() : event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (event_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
    // Where memory fails, it is to fail in what is tested.
    calls.reserve(512);
    waiting_.reserve(64);
    without_permit_.reserve(64);
  }
  fake_engine(const fake_engine&) = delete;
  fake_engine& operator=(const fake_engine&) = delete;
  ~fake_engine() override {
    for (detail::operation* each : waiting_) each->destroy();
    ::close(event_);
  }

  // ---- What the test makes happen.

  /// Somebody waits for `op`, as after submit().
  void take(detail::operation& op) { waiting_.push_back(&op); }
  /// It has ended, which the driver learns when it asks.
  void end(detail::operation& op) {
    std::erase(waiting_, &op);
    std::erase(without_permit_, &op);
    std::erase_if(tasks_, [&](const task& each) { return each.op == &op; });
    ended_.push(op);
  }
  void abort(detail::operation& op) {
    op.result.aborted = true;
    end(op);
  }
  void tell(detail::notice what) { notices_.push_back(std::move(what)); }
  /// Makes the descriptor readable, until it is drained.
  void ring() const { ::eventfd_write(event_, 1); }
  /// Gives a permit to the operation that has waited for one the longest.
  void grant(std::uint64_t number) {
    detail::operation& op = *without_permit_.at(0);
    op.result.permit = number;
    end(op);
  }
  /// Does one of the tasks that wait, the first by default, as a worker would.
  void do_task(std::size_t which = 0) {
    const task next = std::move(tasks_.at(which));
    tasks_.erase(tasks_.begin() + static_cast<std::ptrdiff_t>(which));
    detail::unpacker arguments(next.arguments, {});
    detail::packer result(memory_, inline_limit());
    detail::invocation call{arguments, result, next.fn.target};
    next.fn.entry(call);
    next.op->result.bytes = std::move(result.bytes());
    next.op->result.run = run_time;
    end(*next.op);
  }

  // ---- What the calls answer.

  bool is_inert = false;
  bool has_bound = false;               ///< what has_admission_limit() says
  bool is_polling = false;              ///< until stop_polling() or the end
  unsigned workers = 1;                 ///< what max_workers() says
  std::chrono::nanoseconds run_time{};  ///< what a task takes that do_task() does
  std::uint64_t permit = 0;             ///< what acquire() gives; 0: the operation waits
  std::chrono::milliseconds retry{};    ///< what retry_after() says
  detail::flush_hint hint = detail::flush_hint::none;
  std::exception_ptr refusal;  ///< what acquire() and submit() throw
  script drains, flushes, polls, acquires, submits;

  // ---- What was called, of all that changes something: "cancel 7 partial" is cancel(7, cancel_kind::partial).

  std::vector<std::string> calls;
  std::ptrdiff_t count(const std::string& call) const { return std::count(calls.begin(), calls.end(), call); }
  /// The operation that somebody has waited for the longest.
  detail::operation& first_waiting() const { return waiting(0); }
  /// That of all that somebody waits for, the oldest first.
  detail::operation& waiting(std::size_t which) const { return *waiting_.at(which); }
  std::size_t waiting_count() const { return waiting_.size(); }
  /// How many tasks wait for do_task().
  std::size_t task_count() const { return tasks_.size(); }

  // ---- engine

  bool inert() const noexcept override { return is_inert; }
  int descriptor() const noexcept override { return event_; }
  bool active() const noexcept override { return !waiting_.empty(); }
  detail::segment_source& memory() noexcept override { return memory_; }
  std::size_t inline_limit() const noexcept override { return 4096; }

  bool has_admission_limit() const noexcept override { return has_bound; }
  detail::flush_hint acquire(detail::operation& op, std::uint64_t& got) override {
    calls.push_back("acquire");
    if (refusal) std::rethrow_exception(refusal);
    got = permit;
    if (permit == 0) {
      without_permit_.push_back(&op);
      take(op);
    }
    acquires.play();
    return hint;
  }
  detail::flush_hint release(std::uint64_t which, std::uint64_t cancel_key) noexcept override {
    calls.push_back("release " + std::to_string(which) + " of " + std::to_string(cancel_key));
    return hint;
  }
  detail::flush_hint submit(detail::operation& op, const detail::callable_ref& fn, std::vector<std::byte>&& arguments,
                            std::vector<detail::attachment>&&, const task_options&, std::uint64_t with) override {
    calls.push_back("submit to " + std::to_string(with));
    if (refusal) std::rethrow_exception(refusal);
    tasks_.push_back(task{&op, fn, std::move(arguments)});
    take(op);
    submits.play();
    return hint;
  }
  detail::flush_hint cancel(std::uint64_t cancel_key, detail::cancel_kind kind) override {
    constexpr const char* names[] = {" total", " partial", " terminal"};
    calls.push_back("cancel " + std::to_string(cancel_key) + names[static_cast<std::size_t>(kind)]);
    return hint;
  }
  detail::flush_hint shutdown(detail::operation& op) override {
    calls.push_back("shutdown");
    take(op);
    return hint;
  }
  void stop() noexcept override {
    calls.push_back("stop");
    abort_all();
  }
  void close() noexcept override {
    calls.push_back("close");
    abort_all();
  }

  bool flush() override {
    calls.push_back("flush");
    flushes.play();
    return has_news();
  }
  void drain() override {
    calls.push_back("drain");
    eventfd_t ignored;
    ::eventfd_read(event_, &ignored);
    drains.play();
  }
  bool polling() const noexcept override { return is_polling; }
  bool poll() override {
    calls.push_back("poll");
    polls.play();
    return has_news();
  }
  void stop_polling() override {
    calls.push_back("stop_polling");
    is_polling = false;
  }
  std::chrono::milliseconds retry_after() const noexcept override { return retry; }
  detail::completion_list take_completed(std::vector<detail::notice>& notices) noexcept override {
    calls.push_back("take_completed");
    notices.swap(notices_);
    return std::move(ended_);
  }

  clear_result clear_shm() override { return {}; }
  pool_stats stats() const override { return {}; }
  unsigned max_workers() const noexcept override { return workers; }

 private:
  bool has_news() const noexcept { return !ended_.empty() || !notices_.empty(); }

  struct task {
    detail::operation* op;
    detail::callable_ref fn;
    std::vector<std::byte> arguments;
  };
  /// Tests of the driver need no arrays.
  struct no_memory final : detail::segment_source {
    shm_handle allocate(std::size_t, std::size_t) override { throw std::system_error(errc::shm_exhausted); }
    bool can_lend(const shm_handle&) const noexcept override { return false; }
  };

  void abort_all() {
    is_polling = false;
    tasks_.clear();
    while (!waiting_.empty()) abort(*waiting_.front());
  }

  int event_;
  no_memory memory_;
  std::deque<task> tasks_;
  std::vector<detail::operation*> waiting_;
  std::vector<detail::operation*> without_permit_;  // those of waiting_ that acquire() has taken
  detail::completion_list ended_;
  std::vector<detail::notice> notices_;
};

}  // namespace shmpool::testing
