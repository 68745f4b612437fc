// How a worker ends that leaves because it may: as a program does, by exit(). What its tasks left in statics is
// destroyed, within two seconds, and whatever goes wrong there is nobody else's trouble.
#include "api/gate.hpp"
#include "api/pool_fixture.hpp"
#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <iostream>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace shmpool::testing {
namespace {

using namespace std::chrono_literals;

/// A file to which processes append lines.
class diary {
 public:
  diary() {
    char name[] = "/tmp/shmpool_test_XXXXXX";
    ::close(::mkstemp(name));
    path_ = name;
  }
  diary(const diary&) = delete;
  diary& operator=(const diary&) = delete;
  ~diary() { ::unlink(path_.c_str()); }

  const std::string& path() const noexcept { return path_; }
  std::vector<std::string> lines() const {
    std::vector<std::string> result;
    std::ifstream file(path_);
    for (std::string line; std::getline(file, line);) result.push_back(line);
    return result;
  }

 private:
  std::string path_;
};

void note(const std::string& path, const std::string& line) {
  std::ofstream(path, std::ios::app) << line << std::endl;
}

/// Notes its own end, if somebody has told it where.
struct witness {
  const char* what;
  std::string path;
  ~witness() {
    if (!path.empty()) note(path, what);
  }
};

witness global{"global", {}};
std::string at_exit_path;  // outlives what is registered later

/// Leaves one of everything behind that a program destroys at its end.
int leave_traces(const std::string& path) {
  global.path = path;
  static witness local{"local static", path};
  thread_local witness of_thread{"thread_local", path};
  of_thread.path = path;
  at_exit_path = path;
  std::atexit([] { note(at_exit_path, "atexit"); });
  static std::ofstream log(path + ".log", std::ios::app);  // opened once, as a logging library does
  log << "logged\n";
  static std::FILE* const file = std::fopen((path + ".stdio").c_str(), "a");
  std::fputs("logged\n", file);
  return static_cast<int>(::getpid());
}

void note_finalizer(const std::string& path) {
  note(path, this_task::in_worker() ? "finalizer" : "finalizer that is not in a worker");
}

std::string first_line(const std::string& path) {
  std::string line;
  std::getline(std::ifstream(path), line);
  ::unlink(path.c_str());
  return line;
}

/// Exits as a pool tells of them.
struct exits {
  std::vector<worker_exit> seen;
  auto hook() {
    return [this](const worker_exit& each) { seen.push_back(each); };
  }
};

struct way_to_leave {
  const char* name;
  worker_exit::reason why;
};

class leaving : public ::testing::TestWithParam<way_to_leave> {
 public:
  pool_options chosen() {
    auto result = options();
    result.workers = 1;
    result.on_worker_exit = exits_.hook();
    if (is("idle")) result.idle_timeout = 20ms;
    if (is("retirement")) result.max_tasks_per_worker = 1;
    return result;
  }
  bool is(std::string_view name) const { return name == GetParam().name; }
  /// Lets the one worker leave, and returns how it did.
  asio::awaitable<worker_exit> end(process_pool& pool) {
    if (is("shutdown")) co_await pool.shutdown();
    const bool told = co_await until([&] { return (void)pool.stats(), !exits_.seen.empty(); });
    EXPECT_TRUE(told);
    co_return told ? exits_.seen.front() : worker_exit{};
  }

 private:
  exits exits_;
};

// Workers left by _exit: of a log that was opened once in each there was not a line after an orderly shutdown.
TEST_P(leaving, runs_the_finalizer_and_destroys_what_is_static) {
  const diary book;
  run([](leaving& self, const diary& to) -> asio::awaitable<void> {
    auto options = self.chosen();
    options.finalizer = bind(note_finalizer, to.path());
    process_pool pool(co_await asio::this_coro::executor, options);
    const pid_t worker = co_await pool.submit(leave_traces, to.path());
    const worker_exit end = co_await self.end(pool);
    EXPECT_EQ(end.pid, worker);
    EXPECT_EQ(end.why, GetParam().why);
    EXPECT_EQ(end.signal, 0);
    EXPECT_EQ(end.exit_code, 0);
    EXPECT_EQ(end.tasks, 1u);
    EXPECT_EQ(pool.stats().worker_deaths, 0u);
    EXPECT_EQ(pool.stats().workers_killed, 0u);
  }(*this, book));
  EXPECT_EQ(book.lines(), (std::vector<std::string>{"finalizer", "thread_local", "atexit", "local static", "global"}));
  EXPECT_EQ(first_line(book.path() + ".log"), "logged");
  EXPECT_EQ(first_line(book.path() + ".stdio"), "logged");
}

void refuse_to_finalize() {
  throw std::runtime_error("nothing to finalize");
}

TEST_P(leaving, goes_on_where_the_finalizer_throws_and_says_so_by_its_exit_code) {
  const diary book;
  run([](leaving& self, const diary& to) -> asio::awaitable<void> {
    auto options = self.chosen();
    options.finalizer = refuse_to_finalize;
    process_pool pool(co_await asio::this_coro::executor, options);
    co_await pool.submit(leave_traces, to.path());
    const worker_exit end = co_await self.end(pool);
    EXPECT_EQ(end.why, GetParam().why);
    EXPECT_EQ(end.signal, 0);
    EXPECT_EQ(end.exit_code, 1);
    EXPECT_EQ(pool.stats().worker_deaths, 0u);
    EXPECT_EQ(pool.stats().failed, 0u);
  }(*this, book));
  EXPECT_EQ(book.lines().size(), 4u) << "what is static is destroyed all the same";
  ::unlink((book.path() + ".log").c_str());
  ::unlink((book.path() + ".stdio").c_str());
}

int crash_at_exit() {
  struct crashes {
    ~crashes() {
      ::signal(SIGSEGV, SIG_DFL);  // a sanitizer would make an exit of it
      ::raise(SIGSEGV);
    }
  };
  static crashes here;
  return 42;
}

TEST_P(leaving, is_what_the_worker_did_even_if_a_destructor_crashed) {
  run([](leaving& self) -> asio::awaitable<void> {
    process_pool pool(co_await asio::this_coro::executor, self.chosen());
    EXPECT_EQ(co_await pool.submit(crash_at_exit), 42);
    const worker_exit end = co_await self.end(pool);
    EXPECT_EQ(end.why, GetParam().why);
    EXPECT_EQ(end.signal, SIGSEGV);
    EXPECT_EQ(pool.stats().worker_deaths, 0u);
    EXPECT_EQ(pool.stats().workers_retired, 1u);
    EXPECT_EQ(pool.stats().failed, 0u);
  }(*this));
}

[[noreturn]] void wait_for_ever() {
  sigset_t all;
  sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, nullptr);
  for (;;) ::pause();
}

int hang_at_exit() {
  struct hangs {
    ~hangs() { wait_for_ever(); }
  };
  static hangs here;
  return static_cast<int>(::getpid());
}

TEST_P(leaving, takes_no_more_than_two_seconds_where_a_destructor_hangs) {
  run([](leaving& self) -> asio::awaitable<void> {
    process_pool pool(co_await asio::this_coro::executor, self.chosen());
    co_await pool.submit(hang_at_exit);
    const worker_exit end = co_await self.end(pool);
    EXPECT_EQ(end.why, GetParam().why);
    EXPECT_EQ(end.signal, SIGKILL);
    EXPECT_EQ(pool.stats().worker_deaths, 0u);
  }(*this));
}

INSTANTIATE_TEST_SUITE_P(by, leaving,
                         ::testing::Values(way_to_leave{"shutdown", worker_exit::reason::retired},
                                           way_to_leave{"retirement", worker_exit::reason::retired},
                                           way_to_leave{"idle", worker_exit::reason::idle}),
                         [](const auto& instance) { return std::string(instance.param.name); });

/// A pool without work is not watched, so the parent does not see the time: the worker itself keeps it.
TEST(leaving_in_time, needs_nobody_who_looks) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 1;
    chosen.idle_timeout = 10ms;
    process_pool pool(co_await asio::this_coro::executor, chosen);
    const pid_t worker = co_await pool.submit(hang_at_exit);
    EXPECT_TRUE(happens([&] { return is_gone(worker); }));
  }());
}

TEST(leaving_in_time, holds_for_a_finalizer_too) {
  run([]() -> asio::awaitable<void> {
    exits seen;
    auto chosen = options();
    chosen.workers = 1;
    chosen.on_worker_exit = seen.hook();
    chosen.finalizer = [] { wait_for_ever(); };
    process_pool pool(co_await asio::this_coro::executor, chosen);
    const pid_t worker = co_await pool.submit(hang_at_exit);
    co_await pool.shutdown();
    EXPECT_TRUE(is_dead(worker));
    EXPECT_TRUE(co_await until([&] { return !seen.seen.empty(); }));
    EXPECT_EQ(seen.seen[0].why, worker_exit::reason::retired);
    EXPECT_EQ(seen.seen[0].signal, SIGKILL);
  }());
}

// Deaths that nobody asked for break a pool when they are many; these are none.
TEST(crashes_at_exit, never_break_a_pool) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.max_tasks_per_worker = 1;
    process_pool pool(co_await asio::this_coro::executor, chosen);
    constexpr std::size_t more_than_break_a_pool = 40;
    std::deque<pending_result<int>> results(more_than_break_a_pool);
    for (auto& each : results) pool.submit(crash_at_exit, each.handler());
    for (auto& each : results) {
      co_await each.ended();
      EXPECT_TRUE(each.succeeded()) << text_of(each.error());
    }
    co_await pool.shutdown();
    EXPECT_EQ(pool.stats().worker_deaths, 0u);
    EXPECT_GE(pool.stats().workers_retired, more_than_break_a_pool);
  }());
}

constexpr std::size_t many = 20'000;  // doubles, too many to travel inside the message

/// Everything that a program may have in statics of which the library knows.
int keep_arrays_and_threads(array<const double> lent, array<double> given) {
  struct keeper {
    array<const double> lent;
    array<double> given, made;
    ~keeper() {
      const bool seen = lent[0] == 1 && given[many - 1] == 2 && made[5] == 3;
      auto late = make_array<double>(many, 4.0);
      lent = {};
      made = late;
      this_task::report_progress(0.5);
      if (!seen || this_task::stop_requested() || this_task::in_worker() || made[7] != 4) ::_exit(77);
    }
  };
  static keeper kept{std::move(lent), std::move(given), make_array<double>(many, 3.0)};
  // It goes on while everything is being destroyed, and shares an array with what is.
  std::thread([shared = kept.made]() mutable {
    for (;;) {
      auto made = make_array<double>(many, 5.0);
      auto copy = shared;
      shared = made;
      if (made[many - 1] != 5) ::_exit(78);
    }
  }).detach();
  return 1;
}

TEST(leaving_with_arrays, is_harmless_in_destructors_and_in_threads_that_go_on) {
  for (int round = 0; round != 5; ++round) {
    run([]() -> asio::awaitable<void> {
      exits seen;
      auto chosen = options();
      chosen.on_worker_exit = seen.hook();
      process_pool pool(co_await asio::this_coro::executor, chosen);
      auto lent = pool.make_array<double>(many, 1.0);
      auto given = pool.make_array<double>(many, 2.0);
      EXPECT_EQ(co_await pool.submit(keep_arrays_and_threads, lent, std::move(given)), 1);
      co_await pool.shutdown();
      EXPECT_TRUE(co_await until([&] { return !seen.seen.empty(); }));
      EXPECT_EQ(seen.seen[0].exit_code, 0);
      EXPECT_EQ(seen.seen[0].signal, 0);
      EXPECT_EQ(lent[0], 1);
    }());
  }
}

pid_t who() {
  return ::getpid();
}

void make_arrays(const std::string& path) {
  auto made = make_array<double>(many, 6.0);
  note(path, std::to_string(made[many - 1]));
}

TEST(finalizer, may_make_arrays) {
  const diary book;
  run([](const diary& to) -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 1;
    chosen.finalizer = bind(make_arrays, to.path());
    process_pool pool(co_await asio::this_coro::executor, chosen);
    co_await pool.submit(who);
    co_await pool.shutdown();
    EXPECT_EQ(pool.stats().failed, 0u);
  }(book));
  EXPECT_EQ(book.lines(), std::vector<std::string>{"6.000000"});
}

/// It has children, and its destructor waits for their end.
int keep_a_pool() {
  static asio::io_context io;
  static process_pool pool(io, pool_options{.workers = 1});
  int result = 0;
  pool.submit([](int x) { return x + 1; }, 41, [&](std::exception_ptr, int value) { result = value; });
  io.run();
  return result;
}

TEST(leaving_with_a_pool, takes_the_pool_of_the_worker_along) {
  run([]() -> asio::awaitable<void> {
    exits seen;
    auto chosen = options();
    chosen.workers = 1;
    chosen.on_worker_exit = seen.hook();
    process_pool pool(co_await asio::this_coro::executor, chosen);
    EXPECT_EQ(co_await pool.submit(keep_a_pool), 42);
    co_await pool.shutdown();
    EXPECT_TRUE(co_await until([&] { return !seen.seen.empty(); }));
    EXPECT_EQ(seen.seen[0].exit_code, 0);
    EXPECT_EQ(seen.seen[0].signal, 0);
  }());
}

// ---- What tasks print.

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
}

void print_to_cout(const std::string& text) {
  std::cout << text;
}

[[noreturn]] void print_and_throw(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  throw std::runtime_error("after it printed");
}

void unsynchronize() {
  std::ios::sync_with_stdio(false);
  std::cout << "started ";
}

/// Runs the tasks one after the other in one worker that then dies, and one in another; returns what came out.
std::string printed(const std::vector<void (*)(const std::string&)>& tasks, bound_function initializer) {
  const int file = ::open("/tmp", O_TMPFILE | O_RDWR, 0600);
  const int status = in_child([&] {
    ::dup2(file, STDOUT_FILENO);
    return run([](const auto& all, auto first) -> asio::awaitable<int> {
      auto chosen = options();
      chosen.workers = 1;
      chosen.initializer = first;
      process_pool pool(co_await asio::this_coro::executor, chosen);
      const pid_t worker = co_await pool.submit(who);
      int number = 0;
      for (const auto each : all) {
        pending_result<void> ended;
        pool.submit(each, std::to_string(++number) + " ", ended.handler());
        co_await ended.ended();
      }
      if (co_await pool.submit(who) != worker) co_return 1;
      pending_result<void> crashed;
      pool.submit([] { ::raise(SIGKILL); }, crashed.handler());
      co_await crashed.ended();
      co_await pool.submit(print, std::string("next"));  // by another worker
      co_return as_worker_lost(crashed.error()) ? 0 : 2;
    }(tasks, initializer));
  });
  EXPECT_EQ(status, 0);
  std::string text(100, '\0');
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(0, ::pread(file, text.data(), text.size(), 0))));
  ::close(file);
  return text;
}

// What had been printed waited in the worker's buffer until the worker left, and was lost where a later task crashed.
TEST(what_a_task_printed, is_out_when_it_has_ended_and_a_later_crash_takes_nothing_of_it) {
  EXPECT_EQ(printed({print, print_to_cout, print_and_throw}, {}), "1 2 3 next");
}

TEST(what_a_task_printed, is_out_also_where_cout_has_a_buffer_of_its_own) {
  EXPECT_EQ(printed({print_to_cout, print, print_to_cout}, unsynchronize), "started 1 2 3 started next");
}

/// A constructor of the program's that prints: in the application, and again in the fork server.
const struct talkative {
  talkative() {
    if (std::getenv("SHMPOOL_TEST_CONSTRUCTOR_PRINTS")) std::fputs("constructed ", stdout);
  }
} constructed;

// Workers are copies of the server, with all that waits in its buffers.
TEST(what_a_constructor_printed, is_not_printed_by_each_worker) {
  ::setenv("SHMPOOL_TEST_CONSTRUCTOR_PRINTS", "1", 1);
  EXPECT_EQ(printed({print, print}, {}), "constructed 1 2 next") << "that of the server, once";
  ::unsetenv("SHMPOOL_TEST_CONSTRUCTOR_PRINTS");
}

TEST(what_a_task_printed, costs_nothing_where_nobody_reads_it) {
  EXPECT_EQ(in_child([] {
              int ends[2];
              if (::pipe(ends) != 0) return 1;
              ::close(ends[0]);
              ::dup2(ends[1], STDOUT_FILENO);
              return run([]() -> asio::awaitable<int> {
                auto chosen = options();
                chosen.workers = 1;
                process_pool pool(co_await asio::this_coro::executor, chosen);
                for (int i = 0; i != 3; ++i) co_await pool.submit(print, std::string("into the void"));
                co_await pool.shutdown();
                co_return pool.stats().worker_deaths == 0 && pool.stats().completed == 3 ? 0 : 2;
              }());
            }),
            0);
}

// ---- Initializers and finalizers with arguments.

struct configuration {
  std::string name;
  std::vector<int> numbers;
  std::map<std::string, std::string> values;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(name, numbers, values);
  }
};

configuration configured;
double weight = 0;

void configure(const configuration& from, std::span<const double> weights) {
  auto made = make_array<double>(many, weights.back());  // too large for the message: asked of the parent
  configured = from;
  weight = made[many - 1];
}

std::string what_is_configured() {
  return configured.name + " " + std::to_string(configured.numbers.at(2)) + " " + configured.values.at("key") + " " +
         std::to_string(weight);
}

TEST(initializer_with_arguments, brings_what_main_has_read_to_every_worker) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.max_tasks_per_worker = 1;
    chosen.initializer =
        bind(configure, configuration{"name", {1, 2, 3}, {{"key", "value"}}}, std::vector<double>{1, 2.5});
    process_pool pool(co_await asio::this_coro::executor, chosen);
    chosen = options();  // the pool has what it needs
    for (int i = 0; i != 3; ++i) EXPECT_EQ(co_await pool.submit(what_is_configured), "name 3 value 2.500000");
    co_await pool.shutdown();
  }());
}

std::size_t length = 0;

TEST(initializer_with_arguments, may_have_many_megabytes_of_them) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.initializer = bind([](const std::string& text) { length = text.size(); }, std::string(20'000'000, 'x'));
    process_pool pool(co_await asio::this_coro::executor, chosen);
    EXPECT_EQ(co_await pool.submit([] { return length; }), 20'000'000u);
  }());
}

TEST(initializer_with_arguments, breaks_the_pool_with_what_it_throws) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.initializer =
        bind([](const std::string& why) { throw std::runtime_error("no licence for " + why); }, "this machine");
    process_pool pool(co_await asio::this_coro::executor, chosen);
    pending_result<pid_t> result;
    pool.submit(who, result.handler());
    co_await result.ended();
    EXPECT_EQ(code_of(result.error()), errc::pool_broken);
    EXPECT_NE(text_of(result.error()).find("initializer threw: no licence for this machine"), std::string::npos)
        << text_of(result.error());
  }());
}

TEST(initializer_with_arguments, whose_arguments_are_too_large_is_refused) {
  asio::io_context io;
  auto chosen = options();
  chosen.initializer = bind([](const std::vector<char>&) {}, std::vector<char>((std::size_t{1} << 30) + 1));
  EXPECT_EQ(code_of(thrown_by([&] { process_pool pool(io, chosen); })), errc::message_too_large);
}

// With g++ 12 the temporary is copied byte by byte and destroyed twice; see tests/codec/bind_test.cpp.
TEST(initializer_with_arguments, may_be_written_within_co_await) {
  run([]() -> asio::awaitable<void> {
    for (int i = 0; i != 3; ++i) {
      const std::string text = "a text that is too long to be kept within a std::string";
      process_pool pool{co_await asio::this_coro::executor,
                        {.workers = 1,
                         .initializer = bind([](const std::string& from,
                                                int n) { configured.name = from.substr(0, 6) + std::to_string(n); },
                                             text, i),
                         .finalizer = bind([](const std::string& from) { configured.name = from; }, text)}};
      EXPECT_EQ(co_await pool.submit([] { return configured.name; }), "a text" + std::to_string(i));
      co_await pool.shutdown();
    }
  }());
}

}  // namespace
}  // namespace shmpool::testing
