// One death, one casualty: how a task learns that its worker died under it, and that nobody else does.
#include "gate.hpp"
#include "pool_fixture.hpp"

#include "fault/hostile.hpp"
#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <deque>
#include <filesystem>
#include <map>
#include <ostream>
#include <string>
#include <vector>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using shmpool::array;

enum class way : int { killed, aborts, segfaults, exits, exits_at_once, closes_its_socket, leaves_a_child_behind };

struct death {
  way how;
  const char* name;
  int signal;
  int exit_code;
};

void PrintTo(const death& which, std::ostream* out) {
  *out << which.name;
}

constexpr std::array deaths{
    death{way::killed, "killed", SIGKILL, 0},
    death{way::aborts, "aborts", SIGABRT, 0},
    death{way::segfaults, "segfaults", SIGSEGV, 0},
    death{way::exits, "exits", 0, 3},
    death{way::exits_at_once, "exits_at_once", 0, 99},
    death{way::closes_its_socket, "closes_its_socket", SIGKILL, 0},
    death{way::leaves_a_child_behind, "leaves_a_child_behind", 0, 7},
};

/// Shows its pid, and in flag[1] that of a child that it leaves behind.
int die(way how, array<int>& flag) {
  flag[1] = 0;
  switch (how) {
    case way::killed: break;
    case way::aborts: show(flag, ::getpid()); std::abort();
    case way::segfaults: {
      show(flag, ::getpid());
      ::signal(SIGSEGV, SIG_DFL);  // a sanitizer would report it and exit
      void* nowhere = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      *static_cast<volatile int*>(nowhere) = 1;
      break;
    }
    case way::exits: show(flag, ::getpid()); std::exit(3);
    case way::exits_at_once: show(flag, ::getpid()); ::_exit(99);
    case way::closes_its_socket:
      show(flag, ::getpid());
      ::close(hostile::own_socket());
      break;
    case way::leaves_a_child_behind: {
      const pid_t child = ::fork();
      if (child == 0) {
        for (;;) ::pause();  // it has the socket, so the stream does not end
      }
      flag[1] = child;
      show(flag, ::getpid());
      ::_exit(7);
    }
  }
  show(flag, ::getpid());
  for (;;) ::poll(nullptr, 0, 1000);
}

pid_t own_pid() {
  return ::getpid();
}

int add(int a, int b) {
  return a + b;
}

class worker_death : public ::testing::TestWithParam<death> {};

TEST_P(worker_death, is_told_to_its_task_with_all_that_is_known) {
  const death& expected = GetParam();
  run([&]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 1;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    signal_flag flag(pool);
    pending_result<int> doomed;
    pool.submit(die, expected.how, flag.memory, doomed.handler());
    EXPECT_TRUE(co_await until([&] { return flag.read() != 0; }));
    if (expected.how == way::killed) ::kill(flag.read(), SIGKILL);
    co_await doomed.ended();
    if (expected.how == way::leaves_a_child_behind) ::kill(flag.memory[1], SIGKILL);
    const auto lost = as_worker_lost(doomed.error());
    if (!lost) co_return;
    EXPECT_EQ(lost->code(), shmpool::errc::worker_lost);
    EXPECT_EQ(lost->pid(), flag.read());
    EXPECT_TRUE(lost->status_known());
    EXPECT_EQ(lost->signal(), expected.signal);
    EXPECT_EQ(lost->exit_code(), expected.exit_code);
    EXPECT_GT(lost->max_rss_bytes(), 500'000u);
    EXPECT_LT(lost->max_rss_bytes(), 10'000'000'000u);
    EXPECT_TRUE(lost->started());
    EXPECT_EQ(pool.stats().worker_deaths, 1u);
    EXPECT_EQ(co_await pool.submit(add, 40, 2), 42) << "the pool has a new worker";
    EXPECT_EQ(pool.stats().workers_started, 2u);
  }());
}

INSTANTIATE_TEST_SUITE_P(each_way, worker_death, ::testing::ValuesIn(deaths),
                         [](const auto& instance) { return std::string(instance.param.name); });

/// Where tasks write down that they ran, so that a test can count the runs of each.
class run_log {
 public:
  run_log() {
    char name[] = "/tmp/shmpool_test_XXXXXX";
    fd_ = ::mkstemp(name);
    path_ = name;
  }
  run_log(const run_log&) = delete;
  run_log& operator=(const run_log&) = delete;
  ~run_log() {
    ::close(fd_);
    ::unlink(path_.c_str());
  }
  const std::string& path() const { return path_; }
  std::map<int, int> runs() const {
    std::map<int, int> result;
    ::lseek(fd_, 0, SEEK_SET);
    for (int number; ::read(fd_, &number, sizeof number) == sizeof number;) ++result[number];
    return result;
  }
  static void add(const std::string& path, int number) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    [[maybe_unused]] auto written = ::write(fd, &number, sizeof number);
    ::close(fd);
  }

 private:
  int fd_ = -1;
  std::string path_;
};

/// A task that takes microseconds; `victim` dies in the middle.
int short_task(const std::string& log, int number, int victim) {
  run_log::add(log, number);
  if (number == victim) ::_exit(99);
  return 2 * number;
}

TEST(one_death, costs_one_of_the_many_short_tasks_that_the_worker_had) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 1;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    run_log warm_up, log;
    // So that the pool knows that they are short, and hands over many at once.
    for (int i = 0; i != 50; ++i) co_await pool.submit(short_task, warm_up.path(), i, -1);
    std::size_t most = 0;
    for (const int victim : {0, 7, 31, 63, 99}) {
      run_log counted;
      std::deque<pending_result<int>> results(100);
      for (int i = 0; i != 100; ++i)
        pool.submit(short_task, counted.path(), i, victim, results[static_cast<std::size_t>(i)].handler());
      most = std::max(most, pool.stats().assigned);
      for (int i = 0; i != 100; ++i) {
        auto& each = results[static_cast<std::size_t>(i)];
        co_await each.ended();
        if (i == victim) {
          const auto lost = as_worker_lost(each.error());
          EXPECT_TRUE(lost && lost->exit_code() == 99);
        } else {
          EXPECT_TRUE(each.succeeded()) << i << ": " << text_of(each.error());
          if (each.succeeded()) {
            EXPECT_EQ(each.value(), 2 * i);
          }
        }
      }
      const auto runs = counted.runs();
      EXPECT_EQ(runs.size(), 100u);
      for (const auto& [number, times] : runs) EXPECT_EQ(times, 1) << "task " << number;
    }
    EXPECT_GT(most, 1u) << "one worker was given many";
    EXPECT_EQ(pool.stats().worker_deaths, 5u);
  }());
}

/// Dies on its first runs, as the log tells.
int flaky(const std::string& log, int failures) {
  run_log::add(log, 1);
  if (std::filesystem::file_size(log) / sizeof(int) <= static_cast<std::size_t>(failures)) ::_exit(99);
  return 42;
}

TEST(one_death, is_survived_by_an_idempotent_task_that_may_try_again) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, options());
    const shmpool::task_options twice{.idempotent = true, .attempts = 3};
    run_log enough, not_enough;
    EXPECT_EQ(co_await pool.submit(twice, flaky, enough.path(), 2), 42);
    EXPECT_EQ(enough.runs()[1], 3);
    pending_result<int> lost;
    pool.submit(twice, flaky, not_enough.path(), 3, lost.handler());
    co_await lost.ended();
    EXPECT_TRUE(as_worker_lost(lost.error()));
    EXPECT_EQ(not_enough.runs()[1], 3);
  }());
}

/// Large results, once the test says so: one that travels in a segment, for which the worker has to ask, and one of
/// many parts, which is a message of 11 MB. They do not sleep, but for their answer.
void spin(array<int>& flags) {
  std::atomic_ref(flags[0]).store(::getpid());
  while (std::atomic_ref(flags[1]).load() == 0) {
  }
}
std::string large_text(array<int>& flags) {
  spin(flags);
  return std::string(10'000'000, 'x');
}
std::vector<std::string> large_list(array<int>& flags) {
  spin(flags);
  return std::vector<std::string>(100'000, std::string(100, 'x'));
}

/// Kills the worker when it is waiting for this process to take or to give, on account of its large result.
template <class Result>
asio::awaitable<void> cut_off(Result (*task)(array<int>&)) {
  auto chosen = options();
  chosen.workers = 1;
  shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
  gate open(pool), shut(pool);
  open.open();
  const pid_t worker = co_await pool.submit(own_pid);
  pending_result<Result> cut;
  pool.submit(task, shut.argument(), cut.handler());
  co_await entered(shut);
  // Nobody reads from here on: this thread runs the loop.
  shut.open();
  process seen;
  EXPECT_TRUE(happens([&] { return look_at(worker, seen) && seen.state == 'S'; }));
  ::kill(worker, SIGKILL);
  co_await cut.ended();
  const auto lost = as_worker_lost(cut.error());
  EXPECT_TRUE(lost && lost->signal() == SIGKILL);
  EXPECT_EQ(co_await pool.submit(task, open.argument()), task(open.argument()));
}

TEST(one_death, a_large_result_that_was_cut_off_by_it_is_lost_and_not_half_there) {
  run(cut_off(large_list));
}

TEST(one_death, a_worker_that_dies_while_it_asks_for_memory_takes_none_with_it) {
  run(cut_off(large_text));
}

int crash(int with) {
  ::_exit(with);
}

// Twenty of them broke the pool for good: whoever could make a task crash could stop the service.
TEST(one_death, after_another_costs_one_task_each_and_never_the_pool) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 24;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    std::deque<pending_result<int>> results(100);
    for (auto& each : results) pool.submit(crash, 77, each.handler());
    for (auto& each : results) {
      co_await each.ended();
      const auto lost = as_worker_lost(each.error());
      EXPECT_TRUE(lost && lost->exit_code() == 77);
    }
    EXPECT_EQ(pool.stats().health, shmpool::pool_health::healthy);
    EXPECT_EQ(co_await pool.submit(add, 40, 2), 42);
    co_await pool.shutdown();
    EXPECT_TRUE(happens([] { return workers_of(::getpid()).empty(); }));
  }());
}

}  // namespace
