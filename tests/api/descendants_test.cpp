// What tasks start ends with their worker, and signals to the process group are for the application to decide.
#include "api/gate.hpp"
#include "api/pool_fixture.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace shmpool::testing {
namespace {

using namespace std::chrono_literals;

/// A pipe whose reading end tells when every process that has the writing end is gone. It has a name, so that a worker,
/// which inherits no descriptors, can open it.
class witness {
 public:
  witness() : path_("/tmp/shmpool.witness." + std::to_string(::getpid()) + "." + std::to_string(++count_)) {
    EXPECT_EQ(::mkfifo(path_.c_str(), 0600), 0);
    end_ = ::open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  }
  witness(const witness&) = delete;
  witness& operator=(const witness&) = delete;
  ~witness() {
    ::close(end_);
    ::unlink(path_.c_str());
  }
  const std::string& path() const { return path_; }
  /// Waits until somebody writes, and returns what.
  std::string word() const {
    pollfd readable{end_, POLLIN, 0};
    char text[64]{};
    while (::poll(&readable, 1, 20'000) == 1) {
      const ssize_t size = ::read(end_, text, sizeof text);
      if (size > 0) return std::string(text, static_cast<std::size_t>(size));
    }
    return {};
  }
  /// True if within `patience` all who have it open are gone.
  bool alone(std::chrono::milliseconds patience = 20s) const {
    pollfd hung_up{end_, 0, 0};
    return ::poll(&hung_up, 1, static_cast<int>(patience.count())) == 1;
  }

 private:
  static inline int count_ = 0;
  std::string path_;
  int end_ = -1;
};

/// Runs a shell command that holds the witness open while it runs.
int run_command(std::string path, std::string command) {
  return std::system(("exec 9>" + path + "; echo here >&9; " + command).c_str());
}

int start_command(std::string path, std::string command) {
  return run_command(std::move(path), "(" + command + ") &");
}

int crash_behind_a_command(std::string path) {
  start_command(std::move(path), "sleep 1000");
  ::raise(SIGKILL);
  return 0;
}

/// A child that is no program, and that has a child in turn.
int fork_and_wait(std::string path) {
  if (::fork() == 0) {
    if (::fork() == 0) {
      const int held = ::open(path.c_str(), O_WRONLY);
      [[maybe_unused]] auto written = ::write(held, "here", 4);
      for (;;) ::pause();
    }
    for (;;) ::pause();
  }
  for (;;) ::pause();
}

pool_options one_worker() {
  pool_options result = options();
  result.workers = 1;
  result.cancel_grace = 10ms;
  return result;
}

/// Submits the task, waits until what it starts is there, and cancels it.
template <class... Args>
void expect_cancellation_takes_along(int (*task)(std::string, Args...), Args... args) {
  const watchdog guard;
  const witness pipe;
  asio::io_context io;
  process_pool pool(io, one_worker());
  asio::cancellation_signal cancel;
  pool.submit(task, pipe.path(), args..., asio::bind_cancellation_slot(cancel.slot(), asio::detached));
  while (pool.stats().running == 0) {
    io.poll();
    io.restart();
  }
  EXPECT_EQ(pipe.word().substr(0, 4), "here");
  cancel.emit(asio::cancellation_type::terminal);
  io.run();
  EXPECT_TRUE(pipe.alone());
}

// A program that a task had started outlived timeout, cancellation, pool and application, and held the application's
// output.
TEST(descendants, a_program_that_a_task_waits_for_ends_with_it) {
  expect_cancellation_takes_along(run_command, std::string("sleep 1000"));
}

TEST(descendants, one_in_a_process_group_of_its_own_does_as_well) {
  expect_cancellation_takes_along(run_command, std::string("timeout 1000 sleep 1000"));  // timeout makes a group
}

TEST(descendants, one_that_lost_its_parent_long_ago_does_as_well) {
  expect_cancellation_takes_along(run_command, std::string("(timeout 1000 sleep 1000 &); sleep 1000"));
}

TEST(descendants, forks_and_their_forks_do_as_well) {
  expect_cancellation_takes_along(fork_and_wait);
}

TEST(descendants, what_a_task_leaves_in_the_background_stays_until_its_worker_ends) {
  const watchdog guard;
  const witness pipe;
  asio::io_context io;
  {
    process_pool pool(io, one_worker());
    pool.submit(start_command, pipe.path(), std::string("sleep 1000"), asio::detached);
    io.run();
    io.restart();
    EXPECT_EQ(pipe.word().substr(0, 4), "here");
    EXPECT_FALSE(pipe.alone(0ms));
    pool.shutdown(asio::detached);
    io.run();
  }
  EXPECT_TRUE(pipe.alone());
}

TEST(descendants, a_crash_takes_them_along) {
  const watchdog guard;
  const witness pipe;
  asio::io_context io;
  process_pool pool(io, one_worker());
  pool.submit(crash_behind_a_command, pipe.path(), asio::detached);
  io.run();
  EXPECT_TRUE(pipe.alone());
}

TEST(descendants, other_workers_keep_theirs) {
  const watchdog guard;
  const witness first, second;
  asio::io_context io;
  pool_options chosen = one_worker();
  process_pool kept(io, chosen), ended(io, chosen);
  kept.submit(start_command, first.path(), std::string("sleep 1000"), asio::detached);
  ended.submit(start_command, second.path(), std::string("sleep 1000"), asio::detached);
  io.run();
  io.restart();
  ended.stop();
  io.run();
  io.restart();
  EXPECT_TRUE(second.alone());
  EXPECT_FALSE(first.alone(0ms));
}

/// One that leaves its session is not found before the application ends; then it is.
TEST(descendants, a_daemon_ends_with_the_application) {
  const witness pipe;
  EXPECT_EQ(in_child([&] {
              asio::io_context io;
              process_pool pool(io, one_worker());
              pool.submit(start_command, pipe.path(), std::string("setsid sleep 1000"), asio::detached);
              io.run();
              return pipe.alone(0ms) ? 1 : 0;
            }),
            0);
  EXPECT_TRUE(pipe.alone());
}

TEST(descendants, an_application_that_is_killed_takes_them_along) {
  const watchdog guard;
  const witness pipe;
  const pid_t application = ::fork();
  if (application == 0) {
    asio::io_context io;
    process_pool pool(io, one_worker());
    pool.submit(run_command, pipe.path(), std::string("sleep 1000"), asio::detached);
    io.run();
    ::_exit(0);
  }
  EXPECT_EQ(pipe.word().substr(0, 4), "here");
  ::kill(application, SIGKILL);
  ::waitpid(application, nullptr, 0);
  EXPECT_TRUE(pipe.alone());
}

TEST(descendants, are_left_where_the_pool_is_told_to) {
  const watchdog guard;
  const witness pipe;
  std::string word;
  EXPECT_EQ(in_child([&] {
              asio::io_context io;
              pool_options chosen = one_worker();
              chosen.leave_descendants = true;
              process_pool pool(io, chosen);
              pool.submit(run_command, pipe.path(), std::string("sh -c 'echo $$ >&9; exec sleep 1000' &"),
                          asio::detached);
              io.run();
              return 0;
            }),
            0);
  word = pipe.word();
  while (std::count(word.begin(), word.end(), '\n') < 2) word += pipe.word();
  EXPECT_FALSE(pipe.alone(100ms));
  ::kill(static_cast<pid_t>(std::stoi(word.substr(word.find('\n') + 1))), SIGKILL);
  EXPECT_TRUE(pipe.alone());
}

// ---- Signals

int crunch(array<int>& flags) {
  return gate::pass(flags, false) ? 1 : 0;
}

/// What a program that a task starts does about the signal: "default" or "ignored".
std::string disposition_in_a_program(int number) {
  std::FILE* const out = ::popen("grep SigIgn /proc/self/status", "r");
  char line[64]{};
  const bool read = std::fgets(line, sizeof line, out) != nullptr;
  ::pclose(out);
  if (!read) return "unknown";
  const unsigned long long ignored = std::strtoull(line + 8, nullptr, 16);
  return (ignored >> (number - 1) & 1) != 0 ? "ignored" : "default";
}

class group_signals : public ::testing::TestWithParam<int> {};

// SIGTERM, SIGHUP and SIGQUIT killed running tasks before the application had decided anything; systemd, docker, nohup,
// timeout and a terminal that closes send them to every process.
TEST_P(group_signals, do_not_touch_running_tasks) {
  const int number = GetParam();
  EXPECT_EQ(in_child([number] {
              ::setpgid(0, 0);
              asio::io_context io;
              asio::signal_set received(io, number);
              pool_options chosen = options();
              process_pool pool(io, chosen);
              gate held(pool);
              bool told = false;
              int result = 0;
              received.async_wait([&](std::error_code error, int) { told = !error; });
              pool.submit(crunch, held.argument(),
                          [&](std::exception_ptr error, int value) { result = error ? -1 : value; });
              run_until(io, [&] { return held.entered(); });
              const pid_t worker = std::atomic_ref<int>(held.argument()[0]).load();
              ::kill(0, number);       // the group, as a terminal does
              ::kill(worker, number);  // and each process, as systemd does
              run_until(io, [&] { return told; });
              held.open();
              run_until(io, [&] { return result != 0; });
              return result == 1 && pool.stats().worker_deaths == 0 ? 0 : 1;
            }),
            0);
}

TEST_P(group_signals, reach_programs_that_tasks_start_as_if_started_by_the_application) {
  const int number = GetParam();
  for (const bool ignored : {false, true}) {
    EXPECT_EQ(in_child([&] {
                ::signal(number, ignored ? SIG_IGN : SIG_DFL);
                asio::io_context io;
                process_pool pool(io, options());
                std::string found;
                pool.submit(disposition_in_a_program, number,
                            [&](std::exception_ptr, std::string text) { found = text; });
                io.run();
                return found == (ignored ? "ignored" : "default") ? 0 : 1;
              }),
              0);
  }
}

INSTANTIATE_TEST_SUITE_P(all, group_signals, ::testing::Values(SIGTERM, SIGHUP, SIGQUIT, SIGINT));

int signal_own_group() {
  ::signal(SIGTERM, SIG_DFL);
  ::kill(0, SIGTERM);
  return 0;
}

TEST(descendants, a_task_that_signals_its_process_group_hits_only_its_worker) {
  asio::io_context io;
  process_pool pool(io, options());
  bool lost = false;
  pool.submit(signal_own_group, [&](std::exception_ptr error, int) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const worker_lost&) {
      lost = true;
    }
  });
  io.run();
  EXPECT_TRUE(lost);
}

}  // namespace
}  // namespace shmpool::testing
