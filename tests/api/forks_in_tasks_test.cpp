// A task may fork. The copy is not the worker: it ends where it would return from the task.
#include "api/pool_fixture.hpp"

#include <gtest/gtest.h>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <thread>

namespace shmpool::testing {
namespace {

/// What the copy leaves with, as docs/guarantees.md has it.
constexpr int copy_status = 255;

int wait_for(pid_t child) {
  int status = -1;
  ::waitpid(child, &status, 0);
  return status;
}

int worker_pid() {
  return static_cast<int>(::getpid());
}

/// Starts a program that is not there, and forgets to leave in the child.
int start_missing_program() {
  const pid_t child = ::fork();
  if (child == 0) {
    ::execlp("no-such-program-anywhere", "no-such-program-anywhere", nullptr);
    return -1;
  }
  return wait_for(child);
}

int throw_in_child() {
  const pid_t child = ::fork();
  if (child == 0) throw std::runtime_error("in the child");
  return wait_for(child);
}

/// The child computes with arrays, which it may, and then returns.
array<int> make_arrays_in_child(array<const int> in) {
  auto made = make_array<int>(in.size(), fill(1));
  const pid_t child = ::fork();
  if (child == 0) {
    for (int i = 0; i != 10; ++i) made = make_array<int>(in.size(), fill(2));
    return made;
  }
  made[0] = wait_for(child);
  return made;
}

int report_in_child() {
  const pid_t child = ::fork();
  if (child == 0) {
    this_task::report_progress(0.5);
    return 0;
  }
  return wait_for(child);
}

/// The child makes a copy of itself, which returns.
int fork_twice() {
  const pid_t child = ::fork();
  if (child == 0) {
    const pid_t second = ::fork();
    if (second == 0) return 7;
    ::_exit(WEXITSTATUS(wait_for(second)));
  }
  return wait_for(child);
}

/// Another thread is asking for memory at the fork, with the lock that this takes.
int fork_beside_a_thread_that_makes_arrays() {
  static std::atomic<bool> done{false}, ended{false};
  std::thread([] {  // a copy that returns could not join it
    while (!done) make_array<int>(100'000, fill(3));
    ended = true;
    ended.notify_all();
  })
      .detach();
  int wrong = 0;
  for (int i = 0; i != 20; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      make_array<int>(100'000, fill(4));
      return 0;
    }
    if (wait_for(child) != copy_status << 8) ++wrong;
  }
  done = true;
  ended.wait(false);
  return wrong;
}

template <class Function>
void expect_only_the_worker_answers(Function task) {
  pool_options chosen = options();
  chosen.workers = 1;
  asio::io_context io;
  process_pool pool(io, chosen);
  run(io, [](process_pool& in, Function what) -> asio::awaitable<void> {
    const int pid = co_await in.submit(worker_pid);
    for (int i = 0; i != 3; ++i) EXPECT_EQ(co_await in.submit(what), copy_status << 8);
    EXPECT_EQ(co_await in.submit(worker_pid), pid);
  }(pool, task));
  EXPECT_EQ(pool.stats().worker_deaths, 0U);
}

// The child's result was taken for the task's, and the child went on to serve tasks beside the worker.
TEST(forks_in_tasks, a_child_that_returns_ends_there) {
  expect_only_the_worker_answers(start_missing_program);
}

TEST(forks_in_tasks, a_child_that_throws_ends_there) {
  expect_only_the_worker_answers(throw_in_child);
}

TEST(forks_in_tasks, a_child_reports_no_progress) {
  expect_only_the_worker_answers(report_in_child);
}

TEST(forks_in_tasks, a_childs_child_ends_there) {
  expect_only_the_worker_answers(fork_twice);
}

TEST(forks_in_tasks, a_child_may_make_arrays_of_its_own) {
  asio::io_context io;
  process_pool pool(io, options());
  run(io, [](process_pool& in) -> asio::awaitable<void> {
    const auto argument = in.make_array<int>(50'000, fill(0));
    for (int i = 0; i != 10; ++i) {
      const auto result = co_await in.submit(make_arrays_in_child, argument);
      EXPECT_EQ(result[0], copy_status << 8);
      EXPECT_EQ(result[1], 1);
    }
  }(pool));
}

TEST(forks_in_tasks, a_child_does_not_wait_for_a_lock_of_a_thread_that_it_does_not_have) {
  asio::io_context io;
  process_pool pool(io, options());
  run(io, [](process_pool& in) -> asio::awaitable<void> {
    EXPECT_EQ(co_await in.submit(fork_beside_a_thread_that_makes_arrays), 0);
  }(pool));
}

void fork_in_initializer() {
  const pid_t child = ::fork();
  if (child != 0 && wait_for(child) != copy_status << 8) throw std::runtime_error("the copy went on");
}

TEST(forks_in_tasks, a_child_of_the_initializer_ends_there) {
  pool_options chosen = options();
  chosen.initializer = fork_in_initializer;
  asio::io_context io;
  process_pool pool(io, chosen);
  run(io, [](process_pool& in) -> asio::awaitable<void> { EXPECT_GT(co_await in.submit(worker_pid), 0); }(pool));
}

}  // namespace
}  // namespace shmpool::testing
