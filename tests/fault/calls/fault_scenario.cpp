#include "fault_scenario.hpp"

#include "scenario_tasks.hpp"

#include "api/pool_fixture.hpp"

#include <sched.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace shmpool::testing {

namespace {

using namespace std::chrono_literals;
using asio::awaitable;
using namespace scenario_tasks;

struct wrong_result : std::logic_error {
  using std::logic_error::logic_error;
};

void check(bool holds, const char* what) {
  if (!holds) throw wrong_result(what);
}
#define CHECK(condition) check((condition), #condition)

template <class Values>
bool follows(const Values& values, std::size_t count, double factor, double seed, double offset) {
  if (values.size() != count) return false;
  for (std::size_t i = 0; i != count; ++i) {
    const double expected = factor * pattern(i, seed) + offset, found = values[i];
    if (std::memcmp(&expected, &found, sizeof expected) != 0) return false;
  }
  return true;
}

const char* current_step = "start";

/// True if the documentation allows the error. `broken`: whether it says that the pool is.
bool is_documented(const std::exception_ptr& error, std::string& text, bool& broken) {
  try {
    std::rethrow_exception(error);
  } catch (const wrong_result& wrong) {
    text = std::string("wrong: ") + wrong.what();
    return false;
  } catch (const std::system_error& failed) {
    text = failed.what();
    broken = broken || failed.code() == errc::pool_broken;
    // operation_aborted is documented for those who cancel; steps that do so look for it themselves.
    return failed.code() != asio::error::operation_aborted;
  } catch (const std::bad_alloc&) {
    text = "std::bad_alloc";
    return true;
  } catch (const std::exception& other) {
    text = std::string("undocumented: ") + other.what();
    return false;
  } catch (...) {
    text = "undocumented: no std::exception";
    return false;
  }
}

class scenario {
 public:
  scenario(tolerance expected, bool with_init) : expected_(expected), with_init_(with_init) {}

  scenario_end run() {
    asio::co_spawn(io_, all(), [this](std::exception_ptr error) {
      if (error) wrong_ = true;
    });
    try {
      io_.run();
    } catch (...) {
      std::string text;
      bool broken = false;
      is_documented(std::current_exception(), text, broken);
      std::printf("wrong: %s: an exception left run(): %s\n", current_step, text.c_str());
      return scenario_end::wrong;
    }
    if (!finished_) {
      std::printf("wrong: %s: run() returned, and the operation has not completed\n", current_step);
      return scenario_end::wrong;
    }
    if (wrong_) return scenario_end::wrong;
    return broken_ ? scenario_end::broken : scenario_end::right;
  }

 private:
  awaitable<void> all() {
    co_await first_pool();
    const bool hopeless = expected_ == tolerance::for_good && broken_;
    if (!hopeless) co_await second_pool();
    current_step = "end";
    finished_ = true;
  }

  /// Runs one step, again if it ends with a documented error. True if it succeeded in the end.
  template <class Body>
  awaitable<bool> step(const char* name, Body body) {
    for (int attempt = 1;; ++attempt) {
      current_step = name;
      std::exception_ptr error;
      try {
        co_await body();
      } catch (...) {
        error = std::current_exception();
      }
      if (!error) co_return true;
      std::string text;
      bool broken = false;
      const bool documented = is_documented(error, text, broken);
      std::printf("%s: %s: %s\n", documented ? "error" : "wrong", name, text.c_str());
      std::fflush(stdout);
      broken_ = broken_ || broken;
      if (!documented) wrong_ = true;
      if (wrong_ || expected_ == tolerance::for_good) co_return false;
      if (attempt == 3) {
        std::printf("wrong: %s: does not recover\n", name);
        wrong_ = true;
        co_return false;
      }
      if (broken) {  // a new one has to do
        pool_.reset();
        make_pool();
      }
    }
  }

  void make_pool() {
    auto chosen = options();
    chosen.cancel_grace = 20ms;
    chosen.cache_bytes = 4 << 20;
    chosen.nice = 1;
    chosen.cpu_affinity = cpus_;
    chosen.rlimits = {{RLIMIT_CORE, 0}};
    pool_ = std::make_unique<process_pool>(io_, chosen);
  }

  array<double> filled(std::size_t count, double seed) {
    auto values = pool_->make_array<double>(count);
    for (std::size_t i = 0; i != count; ++i) values[i] = pattern(i, seed);
    return values;
  }

  awaitable<bool> start_pool() {
    co_return co_await step("pool", [this]() -> awaitable<void> {
      make_pool();
      co_return;
    });
  }

  awaitable<void> values_and_arrays() {
    co_await step("value", [this]() -> awaitable<void> { CHECK(co_await pool_->submit(add, 40, 2) == 42); });
    co_await step("string", [this]() -> awaitable<void> {
      CHECK(co_await pool_->submit(repeat, std::string("abc"), 30'000) == repeat("abc", 30'000));
    });
    for (const std::size_t count : {small_count, large_count, huge_count}) {
      co_await step("array, read", [this, count]() -> awaitable<void> {
        auto values = filled(count, 1);
        CHECK(follows(co_await pool_->submit(twice, values), count, 2, 1, 0));
        CHECK(follows(values, count, 1, 1, 0));
      });
    }
    co_await step("array, in place", [this]() -> awaitable<void> {
      auto values = filled(large_count, 2);
      co_await pool_->submit(increment, values);
      CHECK(follows(values, large_count, 1, 2, 1));
    });
    co_await step("array, own", [this]() -> awaitable<void> {
      CHECK(follows(co_await pool_->submit(negated, filled(large_count, 3)), large_count, -1, 3, 0));
      auto kept = filled(large_count, 4);
      CHECK(follows(co_await pool_->submit(negated, kept), large_count, -1, 4, 0));
      CHECK(follows(kept, large_count, 1, 4, 0));
    });
    co_await step("vector", [this]() -> awaitable<void> {
      std::vector<double> values(large_count);
      std::iota(values.begin(), values.end(), 1.0);
      CHECK(co_await pool_->submit(sum, values) == sum(values));
    });
  }

  awaitable<void> several() {
    co_await step("map", [this]() -> awaitable<void> {
      std::vector<int> numbers(60), squares(60);
      std::iota(numbers.begin(), numbers.end(), 0);
      for (std::size_t i = 0; i != squares.size(); ++i) squares[i] = square(numbers[i]);
      CHECK(co_await pool_->map(square, numbers) == squares);
    });
    co_await step("exception", [this]() -> awaitable<void> {
      try {
        co_await pool_->submit(refuse);
      } catch (const std::domain_error& error) {
        CHECK(std::string(error.what()) == "as it should");
        co_return;
      }
      throw wrong_result("the exception of the task did not arrive");
    });
  }

  /// Runs `function` and emits `how` at its first sign of life.
  template <class Function>
  awaitable<void> cancelled(Function function, asio::cancellation_type how) {
    asio::cancellation_signal signal;
    task_options task;
    task.on_progress = [&](double) { signal.emit(how); };
    std::exception_ptr failure;
    bool ended = false;
    asio::steady_timer wake(io_, std::chrono::steady_clock::time_point::max());
    const auto handler = [&]<class... Result>(std::exception_ptr error, Result... result) {
      failure = error;
      if (!error && !((result == 7) && ...)) wrong_ = true;
      ended = true;
      wake.cancel();
    };
    pool_->submit(task, function, asio::bind_cancellation_slot(signal.slot(), handler));
    asio::error_code woken;
    while (!ended) co_await wake.async_wait(asio::redirect_error(asio::use_awaitable, woken));
    if (failure) std::rethrow_exception(failure);
  }

  awaitable<void> stopped() {
    co_await step("partial",
                  [this]() -> awaitable<void> { co_await cancelled(&until_asked, asio::cancellation_type::partial); });
    co_await step("terminal", [this]() -> awaitable<void> {
      try {
        co_await cancelled(&for_ever, asio::cancellation_type::terminal);
      } catch (const std::system_error& error) {
        if (error.code() == asio::error::operation_aborted) co_return;
        throw;
      }
      throw wrong_result("a task without an end has ended");
    });
    co_await step("deadline", [this]() -> awaitable<void> {
      try {
        co_await pool_->submit(task_options{.timeout = 10ms}, for_ever);
      } catch (const std::system_error& error) {
        if (error.code() == errc::deadline_exceeded) co_return;
        throw;
      }
      throw wrong_result("a task without an end has ended");
    });
    co_await step("exit", [this]() -> awaitable<void> { co_await lost(leave, 3); });
    co_await step("after", [this]() -> awaitable<void> { CHECK(co_await pool_->submit(add, 1, 2) == 3); });
  }

  awaitable<void> lost(void (*function)(), int code) {
    try {
      co_await pool_->submit(function);
    } catch (const worker_lost& error) {
      if (!error.started()) throw;  // workers die before they begin anything: the call that fails sees to that
      if (code != 0 && error.status_known())
        CHECK(error.signal() == 0 ? error.exit_code() == code : error.signal() == SIGKILL);
      co_return;
    }
    throw wrong_result("a task whose worker is dead has ended well");
  }

  awaitable<void> first_pool() {
    if (!co_await start_pool()) co_return;
    co_await values_and_arrays();
    co_await several();
    co_await stopped();
    if (with_init_) {
      co_await step("server killed", [this]() -> awaitable<void> { co_await lost(kill_server, 0); });
      co_await step("new server", [this]() -> awaitable<void> { CHECK(co_await pool_->submit(add, 2, 3) == 5); });
    }
    pool_->clear_shm();
    co_await step("again", [this]() -> awaitable<void> {
      CHECK(follows(co_await pool_->submit(twice, filled(large_count, 5)), large_count, 2, 5, 0));
    });
    co_await step("shutdown", [this]() -> awaitable<void> {
      co_await pool_->shutdown();
      const pool_stats now = pool_->stats();
      CHECK(now.live_segments == 0 && now.workers == 0 && now.queued == 0 && now.assigned == 0);
    });
    pool_.reset();
  }

  awaitable<void> second_pool() {
    if (!co_await start_pool()) co_return;
    array<double> result;
    co_await step("second pool", [&]() -> awaitable<void> {
      result = co_await pool_->submit(twice, filled(large_count, 6));
      CHECK(follows(result, large_count, 2, 6, 0));
    });
    current_step = "destroyed with a task";
    std::exception_ptr ended;
    bool aborted = false;
    pool_->submit(for_ever, [&](std::exception_ptr error) {
      ended = error;
      aborted = true;
    });
    pool_.reset();
    co_await asio::post(asio::use_awaitable);
    while (!aborted) co_await asio::post(asio::use_awaitable);
    if (!ended) {
      std::printf("wrong: %s: a task without an end has ended\n", current_step);
      wrong_ = true;
    }
    if (result.size() != 0 && !follows(result, large_count, 2, 6, 0)) {
      std::printf("wrong: %s: an array does not outlive its pool\n", current_step);
      wrong_ = true;
    }
  }

  static std::vector<int> allowed_cpus() {
    cpu_set_t allowed;
    std::vector<int> result;
    if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return result;
    for (int cpu = 0; cpu != CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(static_cast<unsigned>(cpu), &allowed)) result.push_back(cpu);
    }
    return result;
  }

  tolerance expected_;
  bool with_init_;
  asio::io_context io_;
  std::vector<int> cpus_ = allowed_cpus();
  std::unique_ptr<process_pool> pool_;
  bool broken_ = false, wrong_ = false, finished_ = false;
};

}  // namespace

scenario_end run_scenario(tolerance expected, bool with_init) {
  ::signal(SIGALRM, [](int) {
    const auto say = [](const char* text) {
      [[maybe_unused]] auto n = ::write(STDOUT_FILENO, text, std::strlen(text));
    };
    say("wrong: hangs in: ");
    say(current_step);
    say("\n");
    ::abort();
  });
  // A pool whose workers all die at once pauses between them, up to 2 s, before it gives up after the twentieth.
  ::alarm(expected == tolerance::once ? 20 : 45);
  return scenario(expected, with_init).run();
}

}  // namespace shmpool::testing
