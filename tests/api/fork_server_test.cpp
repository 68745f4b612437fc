// The fork server as an application meets it: shared by its pools, replaced when it dies, gone when the application is,
// and untouched by how the application treats its children.
#include "gate.hpp"
#include "pool_fixture.hpp"

#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <array>
#include <atomic>
#include <csignal>
#include <deque>
#include <thread>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using shmpool::array;

pid_t own_pid() {
  return ::getpid();
}

pid_t server_pid() {
  return ::getppid();
}

void hold(array<int>& flag) {
  show(flag, ::getpid());
  for (;;) ::poll(nullptr, 0, 1000);
}

TEST(fork_server, is_one_for_all_pools_of_a_process) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool first(co_await asio::this_coro::executor, options());
    shmpool::process_pool second(co_await asio::this_coro::executor, options());
    EXPECT_EQ(co_await first.submit(server_pid), co_await second.submit(server_pid));
    EXPECT_NE(co_await first.submit(own_pid), co_await second.submit(own_pid));
  }());
}

TEST(fork_server, stays_when_one_pool_goes_whose_workers_go) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool stays(co_await asio::this_coro::executor, options());
    const pid_t worker = co_await stays.submit(own_pid);
    pid_t other = 0;
    {
      shmpool::process_pool goes(co_await asio::this_coro::executor, options());
      other = co_await goes.submit(own_pid);
    }
    EXPECT_TRUE(is_dead(other));
    EXPECT_EQ(co_await stays.submit(own_pid), worker);
  }());
}

TEST(fork_server, that_is_killed_while_the_pool_is_idle_is_replaced) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, options());
    const pid_t worker = co_await pool.submit(own_pid);
    const pid_t server = running_fork_server_of(::getpid());
    ::kill(server, SIGKILL);
    EXPECT_TRUE(happens([&] { return is_dead(worker); })) << "a worker dies with the server";
    pending_result<pid_t> next;
    pool.submit(own_pid, next.handler());
    co_await next.ended();
    EXPECT_TRUE(next.succeeded()) << text_of(next.error());
    EXPECT_NE(fork_server_of(::getpid()), server);
    EXPECT_TRUE(is_gone(server)) << "not even a zombie is left of it";
  }());
}

/// Nobody waited for the word of the new server about a worker that the old one should have started: the worker was
/// taken for one of those that had died with the old one, and how it ended was unknown.
TEST(fork_server, that_replaces_a_dead_one_says_how_a_worker_ended_that_was_asked_of_the_dead_one) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, options());
    const pid_t server = running_fork_server_of(::getpid());
    ::kill(server, SIGKILL);
    EXPECT_TRUE(happens([&] { return is_dead(server); }));
    pending_result<void> crashed;
    pool.submit([] { ::raise(SIGSEGV); }, crashed.handler());
    co_await crashed.ended();
    const auto lost = as_worker_lost(crashed.error());
    EXPECT_TRUE(lost);
    if (lost) {
      EXPECT_TRUE(lost->status_known()) << lost->what();
      EXPECT_EQ(lost->signal(), SIGSEGV);
    }
  }());
}

TEST(fork_server, that_is_killed_loses_what_ran_and_nothing_that_waited) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 2;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    signal_flag first(pool), second(pool);
    pending_result<void> ran, also_ran;
    pool.submit(hold, first.memory, ran.handler());
    pool.submit(hold, second.memory, also_ran.handler());
    EXPECT_TRUE(co_await until([&] { return first.read() != 0 && second.read() != 0; }));
    std::array<pending_result<pid_t>, 5> waited;
    for (auto& each : waited) pool.submit(own_pid, each.handler());
    const pid_t server = running_fork_server_of(::getpid());
    ::kill(server, SIGKILL);
    co_await ran.ended();
    co_await also_ran.ended();
    for (auto* each : {&ran, &also_ran}) {
      const auto lost = as_worker_lost(each->error());
      EXPECT_TRUE(lost && lost->started());
    }
    for (auto& each : waited) {
      co_await each.ended();
      EXPECT_TRUE(each.succeeded()) << text_of(each.error());
    }
    EXPECT_TRUE(is_dead(first.read()) && is_dead(second.read()));
    EXPECT_TRUE(is_gone(server));
  }());
}

TEST(fork_server, that_is_killed_while_it_starts_workers_loses_no_task) {
  run([]() -> asio::awaitable<void> {
    for (int i = 0; i != 4; ++i) {
      shmpool::process_pool pool(co_await asio::this_coro::executor, options());
      const pid_t server = running_fork_server_of(::getpid());
      ::kill(server, SIGSTOP);
      std::array<pending_result<pid_t>, 5> results;
      for (auto& each : results) pool.submit(own_pid, each.handler());
      // Even tasks have their worker asked for; odd ones have not got so far.
      if (i % 2 == 0) co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
      ::kill(server, SIGKILL);
      for (auto& each : results) {
        co_await each.ended();
        EXPECT_TRUE(each.succeeded()) << text_of(each.error());
      }
    }
  }());
}

/// More workers are asked for than the server's socket takes, and the pool is stopped: the next server was told to
/// start the rest, and nobody told it that they were not wanted any more.
TEST(fork_server, that_is_killed_before_it_starts_workers_does_not_keep_a_stopped_pool_from_ending) {
  EXPECT_EQ(in_child([] {
              rlimit files{};
              ::getrlimit(RLIMIT_NOFILE, &files);
              files.rlim_cur = files.rlim_max;
              ::setrlimit(RLIMIT_NOFILE, &files);
              asio::io_context io;
              const watchdog guard;
              auto chosen = options();
              chosen.workers = 500;
              shmpool::process_pool pool(io, chosen);
              const pid_t server = running_fork_server_of(::getpid());
              ::kill(server, SIGSTOP);
              std::deque<pending_result<pid_t>> unwanted(500);
              for (auto& each : unwanted) pool.submit(own_pid, each.handler());
              pending_result<void> down;
              pool.stop();
              pool.shutdown(down.handler());
              ::kill(server, SIGKILL);
              io.run();
              for (const auto& each : unwanted) {
                if (code_of(each.error()) != make_error_code(asio::error::operation_aborted)) return 1;
              }
              return down.succeeded() && pool.stats().workers == 0 ? 0 : 2;
            }),
            0);
}

TEST(fork_server, that_is_suspended_does_not_hold_the_destructor_up_for_long) {
  EXPECT_EQ(in_child([] {
              asio::io_context io;
              pending_result<void> running;
              pending_result<pid_t> starting;
              pid_t server = 0;
              const auto start = std::chrono::steady_clock::now();
              {
                shmpool::process_pool pool(io, options());
                gate shut(pool);
                pending_result<int> first;
                pool.submit(stubborn, shut.argument(), 1, [](std::exception_ptr, int) {});
                run_until(io, [&] { return shut.entered(); });
                server = running_fork_server_of(::getpid());
                ::kill(server, SIGSTOP);
                pool.submit(own_pid, starting.handler());
                io.poll();
              }
              const auto took = std::chrono::steady_clock::now() - start;
              ::kill(server, SIGCONT);
              io.restart();
              io.run();
              return starting.done() && took < 4s ? 0 : 1;
            }),
            0);
}

TEST(fork_server, ends_with_the_application_that_leaves_by_exit) {
  // The child's fork server would become a child of this process, if it outlived its own parent.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  EXPECT_EQ(run_as_program("fork_server.DISABLED_application"), 0);
  const auto own = fork_server_of(::getpid());
  for (const process& each : children_of(::getpid())) EXPECT_TRUE(each.pid == own) << each.name;
  ::prctl(PR_SET_CHILD_SUBREAPER, 0);
}

TEST(fork_server, DISABLED_application) {
  asio::io_context io;
  shmpool::process_pool pool(io, options());
  pool.submit(own_pid, asio::detached);
  io.run();
}

TEST(fork_server, works_in_an_application_that_ignores_its_children) {
  EXPECT_EQ(in_child([] {
              ::signal(SIGCHLD, SIG_IGN);
              return run([]() -> asio::awaitable<int> {
                shmpool::process_pool pool(co_await asio::this_coro::executor, options());
                signal_flag flag(pool);
                pending_result<void> doomed;
                pool.submit(hold, flag.memory, doomed.handler());
                if (!co_await until([&] { return flag.read() != 0; })) co_return 1;
                ::kill(flag.read(), SIGKILL);
                co_await doomed.ended();
                const auto lost = as_worker_lost(doomed.error());
                if (!lost || lost->signal() != SIGKILL) co_return 2;
                ::kill(running_fork_server_of(::getpid()), SIGKILL);
                co_await pool.shutdown();
                shmpool::process_pool next(co_await asio::this_coro::executor, options());
                if (co_await next.submit(own_pid) == ::getpid()) co_return 3;
                co_return children_of(::getpid()).size() == 1 ? 0 : 4;
              }());
            }),
            0);
}

TEST(fork_server, works_in_an_application_that_waits_for_every_child_there_is) {
  EXPECT_EQ(in_child([] {
              std::atomic<int> stolen{0};
              std::jthread thief([&](std::stop_token enough) {
                while (!enough.stop_requested()) {
                  if (::waitpid(-1, nullptr, WNOHANG) > 0) ++stolen;
                  ::poll(nullptr, 0, 1);
                }
              });
              return run([&]() -> asio::awaitable<int> {
                shmpool::process_pool pool(co_await asio::this_coro::executor, options());
                signal_flag flag(pool);
                pending_result<void> doomed;
                pool.submit(hold, flag.memory, doomed.handler());
                if (!co_await until([&] { return flag.read() != 0; })) co_return 1;
                ::kill(flag.read(), SIGKILL);
                co_await doomed.ended();
                const auto lost = as_worker_lost(doomed.error());
                if (!lost || lost->signal() != SIGKILL) co_return 2;
                ::kill(running_fork_server_of(::getpid()), SIGKILL);
                if (!co_await until([&] { return stolen == 1; })) co_return 3;
                co_return co_await pool.submit(own_pid) != ::getpid() ? 0 : 4;
              }());
            }),
            0);
}

}  // namespace
