// Programs that do not call shmpool::init: their fork server is forked from them when the first pool is made, which is
// possible while they have one thread. Each test runs in a child of its own, as a program has one server.
#include "api/pool_fixture.hpp"

#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <latch>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using shmpool::array;
using shmpool::errc;

#define STEP(condition)                                                         \
  if (!(condition)) {                                                           \
    std::fprintf(stderr, "%s:%d: child: %s\n", __FILE__, __LINE__, #condition); \
    co_return 1;                                                                \
  }

int add(int a, int b) {
  return a + b;
}

pid_t own_pid() {
  return ::getpid();
}

array<double> twice(array<const double> values) {
  auto result = shmpool::make_array<double>(values.size());
  for (std::size_t i = 0; i != values.size(); ++i) result[i] = 2 * values[i];
  return result;
}

void hold(array<int>& flag) {
  show(flag, ::getpid());
  for (;;) ::poll(nullptr, 0, 1000);
}

int inherited = 0;

int what_was_inherited() {
  return inherited;
}

std::size_t descriptors() {
  return open_descriptors();
}

/// A thread that is there until the end.
class another_thread {
 public:
  another_thread() : thread_([this] { leave_.wait(); }) {}
  ~another_thread() {
    leave_.count_down();
    thread_.join();
  }

 private:
  std::latch leave_{1};
  std::thread thread_;
};

TEST(without_init, a_program_of_one_thread_has_pools_that_work) {
  EXPECT_EQ(in_child([] {
              inherited = 42;  // the server is a copy of the program as it is now
              return run([]() -> asio::awaitable<int> {
                const auto executor = co_await asio::this_coro::executor;
                shmpool::process_pool pool(executor, options());
                inherited = 43;
                STEP(co_await pool.submit(add, 40, 2) == 42);
                STEP(co_await pool.submit(what_was_inherited) == 42);
                auto values = pool.make_array<double>(1'000'000, 21.0);
                const auto result = co_await pool.submit(twice, values);
                STEP(result[999'999] == 42.0);
                shmpool::process_pool second(executor, options());
                STEP(co_await second.submit(add, 40, 2) == 42);
                STEP(children_of(::getpid()).size() == 1);
                co_await pool.shutdown();
                co_await second.shutdown();
                co_return 0;
              }());
            }),
            0);
}

TEST(without_init, workers_have_no_descriptor_of_the_program) {
  EXPECT_EQ(in_child([] {
              const int low = ::open("/dev/zero", O_RDONLY);
              ::fcntl(low, F_DUPFD, 100);
              return run([]() -> asio::awaitable<int> {
                shmpool::process_pool pool(co_await asio::this_coro::executor, options());
                STEP(co_await pool.submit(descriptors) == 5);  // three standard streams, the socket and the bell
                co_return 0;
              }());
            }),
            0);
}

TEST(without_init, what_waits_to_be_printed_is_printed_once) {
  char name[] = "/tmp/shmpool_test_XXXXXX";
  const int file = ::mkstemp(name);
  EXPECT_EQ(in_child([&] {
              ::dup2(file, STDOUT_FILENO);
              std::fputs("once\n", stdout);
              return run([]() -> asio::awaitable<int> {
                shmpool::process_pool pool(co_await asio::this_coro::executor, options());
                STEP(co_await pool.submit(add, 40, 2) == 42);
                co_await pool.shutdown();
                std::fflush(stdout);
                co_return 0;
              }());
            }),
            0);
  EXPECT_EQ(::lseek(file, 0, SEEK_END), 5);
  ::close(file);
  ::unlink(name);
}

TEST(without_init, a_program_of_several_threads_is_told_what_to_do) {
  EXPECT_EQ(in_child([] {
              const another_thread second;
              asio::io_context io;
              const auto before = open_descriptors();
              const auto error = thrown_by([&] { const shmpool::process_pool pool(io, options()); });
              if (code_of(error) != errc::fork_server) return 1;
              for (const char* word : {"2 threads", "shmpool::init(argc, argv)", "first line of main"}) {
                if (text_of(error).find(word) == std::string::npos) return 2;
              }
              return open_descriptors() == before && children_of(::getpid()).empty() ? 0 : 3;
            }),
            0);
}

TEST(without_init, threads_may_come_after_the_first_pool) {
  EXPECT_EQ(in_child([] {
              return run([]() -> asio::awaitable<int> {
                const auto executor = co_await asio::this_coro::executor;
                shmpool::process_pool first(executor, options());
                const another_thread second_thread;
                shmpool::process_pool second(executor, options());
                STEP(co_await first.submit(add, 40, 2) == 42);
                STEP(co_await second.submit(add, 40, 2) == 42);
                co_return 0;
              }());
            }),
            0);
}

TEST(without_init, a_pool_whose_fork_server_was_killed_is_broken_and_says_why) {
  EXPECT_EQ(in_child([] {
              return run([]() -> asio::awaitable<int> {
                const auto executor = co_await asio::this_coro::executor;
                shmpool::process_pool pool(executor, options());
                signal_flag flag(pool);
                pending_result<void> ran;
                pool.submit(hold, flag.memory, ran.handler());
                STEP(co_await until([&] { return flag.read() != 0; }));
                const pid_t server = running_fork_server_of(::getpid());
                ::kill(server, SIGKILL);
                co_await ran.ended();
                STEP(code_of(ran.error()) == errc::worker_lost || code_of(ran.error()) == errc::pool_broken);
                pending_result<int> late;
                pool.submit(add, 40, 2, late.handler());
                co_await late.ended();
                STEP(code_of(late.error()) == errc::pool_broken);
                STEP(text_of(late.error()).find("fork server") != std::string::npos);
                STEP(text_of(late.error()).find("shmpool::init") != std::string::npos);
                STEP(happens([&] { return is_dead(flag.read()); }));
                co_await pool.shutdown();
                // A new pool may fork a new server: this program still has one thread.
                shmpool::process_pool next(executor, options());
                STEP(co_await next.submit(own_pid) != ::getpid());
                STEP(is_gone(server));
                co_return 0;
              }());
            }),
            0);
}

/// The worker that was to be started, and that no server had been told of, was waited for for ever.
TEST(without_init, a_pool_whose_fork_server_was_killed_before_it_started_a_worker_can_be_shut_down) {
  EXPECT_EQ(in_child([] {
              return run([]() -> asio::awaitable<int> {
                shmpool::process_pool pool(co_await asio::this_coro::executor, options());
                const pid_t server = running_fork_server_of(::getpid());
                ::kill(server, SIGKILL);
                STEP(happens([&] { return is_dead(server); }));
                pending_result<pid_t> late;
                pool.submit(own_pid, late.handler());
                co_await late.ended();
                STEP(code_of(late.error()) == errc::pool_broken);
                co_await pool.shutdown();
                STEP(pool.stats().workers == 0);
                co_return 0;
              }());
            }),
            0);
}

TEST(without_init, a_forked_server_cleans_up_after_the_program_too) {
  int tell[2];
  ASSERT_EQ(::pipe2(tell, O_CLOEXEC), 0);
  const pid_t program = ::fork();
  if (program == 0) {
    asio::io_context io;
    auto chosen = options();
    chosen.backing = shmpool::backing::posix;
    shmpool::process_pool pool(io, chosen);
    auto values = pool.make_array<double>(1'000'000, 1.0);
    char prefix[64] = {};
    pools_of(::getpid()).at(0).copy(prefix, sizeof prefix - 1);
    pool.submit(own_pid, [&](std::exception_ptr, pid_t) {
      [[maybe_unused]] auto written = ::write(tell[1], prefix, sizeof prefix);
      ::kill(::getpid(), SIGKILL);
    });
    io.run();
    ::_exit(1);
  }
  char prefix[64] = {};
  ASSERT_EQ(::read(tell[0], prefix, sizeof prefix), static_cast<ssize_t>(sizeof prefix));
  int status = 0;
  ::waitpid(program, &status, 0);
  EXPECT_EQ(status, SIGKILL);
  EXPECT_TRUE(happens([&] { return names_with(prefix).empty(); }, 2s));
  ::close(tell[0]);
  ::close(tell[1]);
}

std::string where_ends_are_noted;

void note(const char* what) {
  std::ofstream(where_ends_are_noted, std::ios::app) << what << '\n' << std::flush;
}

/// Has an end that a program would not want to be seen to twice: it removes a file, say, or says goodbye to a server.
struct of_the_application {
  ~of_the_application() { note("the application's object"); }
};

int make_a_static() {
  struct of_the_worker {
    ~of_the_worker() { note("the worker's object"); }
  };
  static of_the_worker here;
  std::atexit([] { note("the worker's function"); });
  return 1;
}

// Workers are copies of the application here. What it had when it made its first pool it ends itself; a worker that did
// it, too, would remove the application's files as soon as it was idle.
TEST(without_init, a_worker_ends_what_came_into_being_in_it_and_nothing_of_the_application) {
  char name[] = "/tmp/shmpool_test_XXXXXX";
  ::close(::mkstemp(name));
  EXPECT_EQ(in_child([&] {
              where_ends_are_noted = name;
              static of_the_application here;
              std::atexit([] { note("the application's function"); });
              const int result = run([]() -> asio::awaitable<int> {
                shmpool::process_pool pool(co_await asio::this_coro::executor, options());
                const int made = co_await pool.submit(make_a_static);
                co_await pool.shutdown();
                STEP(pool.stats().worker_deaths == 0);
                STEP(made == 1);
                co_return 0;
              }());
              note("the pool");
              return result;
            }),
            0);
  std::vector<std::string> ends;
  std::ifstream file(name);
  for (std::string line; std::getline(file, line);) ends.push_back(line);
  EXPECT_EQ(ends, (std::vector<std::string>{"the worker's function", "the worker's object", "the pool"}))
      << "the child itself leaves without its handlers";
  ::unlink(name);
}

// Of an exit code that a task gives to exit() nothing is lost.
TEST(without_init, a_task_that_exits_is_lost_with_its_exit_code) {
  EXPECT_EQ(in_child([] {
              return run([]() -> asio::awaitable<int> {
                shmpool::process_pool pool(co_await asio::this_coro::executor, options());
                pending_result<int> lost;
                pool.submit([](int code) -> int { std::exit(code); }, 7, lost.handler());
                co_await lost.ended();
                const auto how = as_worker_lost(lost.error());
                STEP(how && how->exit_code() == 7);
                co_return 0;
              }());
            }),
            0);
}

}  // namespace

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
