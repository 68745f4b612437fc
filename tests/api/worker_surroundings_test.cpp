// What workers find around them: that of the process, at the moment at which their pool is made; not that of the thread
// that happened to make the first pool.
#include "api/pool_fixture.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace shmpool::testing {
namespace {

template <class Function, class... Args>
auto ask(process_pool& pool, asio::io_context& io, Function function, Args... args) {
  auto result = pool.submit(function, args..., asio::use_future);
  io.run();
  io.restart();
  return result.get();
}

int cpus() {
  cpu_set_t set;
  ::sched_getaffinity(0, sizeof set, &set);
  return CPU_COUNT(&set);
}

std::vector<int> scheduling() {
  sched_param parameters{};
  ::sched_getparam(0, &parameters);
  return {::sched_getscheduler(0), parameters.sched_priority, ::prctl(PR_GET_TIMERSLACK)};
}

/// Changes the calling thread for the worse, as a server does with the one for its I/O.
void become_io_thread() {
  cpu_set_t first;
  CPU_ZERO(&first);
  cpu_set_t all;
  ::sched_getaffinity(0, sizeof all, &all);
  for (unsigned i = 0; i != CPU_SETSIZE; ++i) {
    if (!CPU_ISSET(i, &all)) continue;
    CPU_SET(i, &first);
    break;
  }
  ::pthread_setaffinity_np(::pthread_self(), sizeof first, &first);
  ::prctl(PR_SET_TIMERSLACK, 1);
  sched_param parameters{};
  parameters.sched_priority = 10;
  ::pthread_setschedparam(::pthread_self(), SCHED_FIFO, &parameters);  // as root
}

// All workers ran on the CPU, and in the real-time class, of whichever thread had made the first pool.
TEST(worker_surroundings, are_not_those_of_the_thread_that_makes_the_pool) {
  EXPECT_EQ(in_child([] {
              const int all = cpus();
              const std::vector<int> ordinary = {SCHED_OTHER, 0, 50'000};
              int wrong = 0;
              std::thread([&] {
                become_io_thread();
                if (static_cast<int>(default_worker_count()) != all) ++wrong;
                asio::io_context io;
                process_pool pool(io, options());
                if (ask(pool, io, cpus) != all) ++wrong;
                if (ask(pool, io, scheduling) != ordinary) ++wrong;
              }).join();
              asio::io_context io;
              process_pool second(io, options());
              if (ask(second, io, cpus) != all) ++wrong;
              return wrong;
            }),
            0);
}

std::vector<int> cpus_asked_for() {
  cpu_set_t set;
  ::sched_getaffinity(0, sizeof set, &set);
  std::vector<int> result;
  for (int i = 0; i != CPU_SETSIZE; ++i) {
    if (CPU_ISSET(static_cast<unsigned>(i), &set)) result.push_back(i);
  }
  return result;
}

TEST(worker_surroundings, have_the_cpus_that_the_pool_asks_for) {
  pool_options chosen = options();
  chosen.cpu_affinity = {cpus_asked_for().front()};
  asio::io_context io;
  process_pool pool(io, chosen);
  EXPECT_EQ(ask(pool, io, cpus_asked_for), chosen.cpu_affinity);
}

std::string directory() {
  return std::filesystem::current_path();
}

int umask_of_worker() {
  const mode_t now = ::umask(0);
  ::umask(now);
  return static_cast<int>(now);
}

std::string variable(std::string name) {
  const char* const value = std::getenv(name.c_str());
  return value ? value : "unset";
}

std::vector<std::uint64_t> core_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_CORE, &limit);
  return {limit.rlim_cur, limit.rlim_max};
}

int nice_value() {
  return ::getpriority(PRIO_PROCESS, 0);
}

// A later pool's workers had what the process had when it made its first.
TEST(worker_surroundings, are_those_of_the_moment_at_which_their_pool_is_made) {
  EXPECT_EQ(in_child([] {
              asio::io_context io;
              process_pool first(io, options());
              const std::string before = ask(first, io, directory);
              ::setenv("SHMPOOL_TEST_VARIABLE", "new", 1);
              ::unsetenv("HOME");
              if (::chdir("/usr") != 0) return 100;
              ::umask(0123);
              const rlimit limit{1234, 5678};
              ::setrlimit(RLIMIT_CORE, &limit);
              ::setpriority(PRIO_PROCESS, 0, 3);
              process_pool second(io, options());
              if (::chdir("/") != 0) return 100;
              ::umask(0);
              int wrong = 0;
              wrong |= ask(second, io, directory) != "/usr" ? 1 : 0;
              wrong |= ask(second, io, umask_of_worker) != 0123 ? 2 : 0;
              wrong |= ask(second, io, variable, std::string("SHMPOOL_TEST_VARIABLE")) != "new" ? 4 : 0;
              wrong |= ask(second, io, variable, std::string("HOME")) != "unset" ? 8 : 0;
              wrong |= ask(second, io, core_limit) != std::vector<std::uint64_t>{1234, 5678} ? 16 : 0;
              wrong |= ask(second, io, nice_value) != 3 ? 32 : 0;
              // The first one's are what they were.
              wrong |= ask(first, io, directory) != before ||
                               ask(first, io, variable, std::string("SHMPOOL_TEST_VARIABLE")) != "unset"
                           ? 64
                           : 0;
              return wrong;
            }),
            0);
}

int print(std::string text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
  return 0;
}

TEST(worker_surroundings, print_where_the_application_does) {
  char name[] = "/tmp/shmpool_test_XXXXXX";
  const int file = ::mkstemp(name);
  EXPECT_EQ(in_child([&] {
              asio::io_context io;
              process_pool first(io, options());
              ask(first, io, print, std::string());
              ::dup2(file, STDOUT_FILENO);
              process_pool second(io, options());
              return ask(second, io, print, std::string("printed"));
            }),
            0);
  std::ifstream printed(name);
  std::string text;
  std::getline(printed, text);
  EXPECT_EQ(text, "printed");
  ::close(file);
  ::unlink(name);
}

std::vector<std::uint64_t> identity() {
  return {this_task::worker_index(), this_task::worker_seed(), static_cast<std::uint64_t>(::rand())};
}

int die() {
  ::abort();
}

TEST(worker_surroundings, number_workers_from_zero_and_give_each_a_seed) {
  EXPECT_EQ(this_task::worker_seed(), 0U);
  pool_options chosen = options();
  chosen.workers = chosen.min_workers = 4;
  chosen.max_tasks_per_worker = 1;
  asio::io_context io;
  std::set<std::uint64_t> seeds, numbers;
  process_pool pool(io, chosen);
  std::vector<std::uint64_t> indices;
  for (int i = 0; i != 40; ++i) {
    const auto each = ask(pool, io, identity);
    indices.push_back(each[0]);
    seeds.insert(each[1]);
    numbers.insert(each[2]);
  }
  EXPECT_EQ(seeds.size(), 40U);
  EXPECT_EQ(seeds.count(0), 0U);
  EXPECT_GT(numbers.size(), 35U);  // 31 bits each
  EXPECT_LT(*std::max_element(indices.begin(), indices.end()), 2U * chosen.workers);
}

TEST(worker_surroundings, give_a_dead_workers_number_again) {
  pool_options chosen = options();
  chosen.workers = 1;
  asio::io_context io;
  process_pool pool(io, chosen);
  for (int i = 0; i != 5; ++i) {
    EXPECT_EQ(ask(pool, io, identity)[0], 0U);
    pool.submit(die, asio::detached);
    io.run();
    io.restart();
  }
}

}  // namespace
}  // namespace shmpool::testing
