// What a worker has of its parent and what it has not: descriptors, signals, standard input, random numbers; and that
// the options about its surroundings take effect.
#include "pool_fixture.hpp"

#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <gmock/gmock.h>

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <new>
#include <set>
#include <string>
#include <vector>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using shmpool::array;

template <class Function, class... Args>
auto ask_one(const shmpool::pool_options& chosen, Function fn, Args... args) {
  return run([](shmpool::pool_options with, Function function,
                Args... given) -> asio::awaitable<std::invoke_result_t<Function, Args...>> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, with);
    co_return co_await pool.submit(function, given...);
  }(chosen, fn, args...));
}

std::vector<std::string> descriptors() {
  std::vector<std::string> result;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;  // that of the listing itself
    const std::string target = std::filesystem::read_symlink(entry.path(), gone);
    if (!gone && target.find("/proc/") == std::string::npos)
      result.push_back(entry.path().filename().string() + " " + target);
  }
  return result;
}

TEST(hygiene, a_worker_has_its_socket_its_bell_and_standard_streams_and_no_descriptor_of_the_application) {
  // Without close-on-exec, below and above: the kind that leaks.
  const int low = ::open("/dev/zero", O_RDONLY);
  const int high = ::fcntl(low, F_DUPFD, 200);
  const auto names = ask_one(options(), descriptors);
  ::close(low);
  ::close(high);
  std::vector<std::string> own;
  for (const std::string& each : names) {
    if (std::stoi(each) <= 2) continue;
    EXPECT_GT(std::stoi(each), 200) << "above what a task may use";
    own.push_back(each.substr(each.find(' ') + 1, each.find(':') - each.find(' ')));
  }
  EXPECT_THAT(own, ::testing::UnorderedElementsAre("socket:", "pipe:"));
}

/// As a program that makes itself a daemon; the log gets the lowest number, and stays open.
void close_all_and_log(const std::string& name) {
  for (int fd = 3; fd != 250; ++fd) ::close(fd);
  const int log = ::open(name.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  EXPECT_EQ(::write(log, "hello", 5), 5);
}
bool has_log() {
  return ::fcntl(3, F_GETFD) == 0;
}

// The bell had the lowest number: its rings went to the log.
TEST(hygiene, a_task_may_close_all_descriptors_that_it_can_know_of_and_open_others) {
  const std::string name = std::filesystem::temp_directory_path() / ("shmpool_test_" + std::to_string(::getpid()));
  run([name]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 1;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    co_await pool.submit(close_all_and_log, name);
    for (int i = 0; i != 10; ++i) EXPECT_TRUE(co_await pool.submit(has_log));
    EXPECT_EQ(pool.stats().workers_started, 1U);
  }());
  std::ifstream log(name);
  const std::string text{std::istreambuf_iterator<char>(log), {}};
  EXPECT_EQ(text, "hello");
  std::filesystem::remove(name);
}

std::string standard_input() {
  return std::filesystem::read_symlink("/proc/self/fd/0");
}

TEST(hygiene, a_worker_reads_nothing_from_the_terminal) {
  EXPECT_EQ(ask_one(options(), standard_input), "/dev/null");
}

std::vector<int> blocked_signals() {
  sigset_t now;
  ::sigprocmask(SIG_BLOCK, nullptr, &now);
  std::vector<int> result;
  for (int number = 1; number != NSIG; ++number) {
    if (::sigismember(&now, number) == 1) result.push_back(number);
  }
  return result;
}

/// Signals whose disposition is not the default.
std::vector<int> changed_signals() {
  std::vector<int> result;
  for (int number = 1; number != NSIG; ++number) {
    struct sigaction now {};
    if (::sigaction(number, nullptr, &now) == 0 && now.sa_handler != SIG_DFL) result.push_back(number);
  }
  return result;
}

TEST(hygiene, a_worker_blocks_no_signal_and_handles_those_to_the_group_only) {
  EXPECT_EQ(
      in_child([] {
        sigset_t all;
        sigfillset(&all);
        ::sigprocmask(SIG_SETMASK, &all, nullptr);
        ::signal(SIGUSR1, SIG_IGN);
        ::signal(SIGUSR2, [](int) {});
        ::signal(SIGPIPE, SIG_IGN);
        asio::io_context io;
        shmpool::process_pool pool(io, options());
        // One after the other: of several that end in one turn, all but one are posted, which use_future takes to
        // Asio's system threads, and a forked child of a process that has them has none.
        auto blocked = pool.submit(blocked_signals, asio::use_future);
        io.run();
        io.restart();
        auto changed = pool.submit(changed_signals, asio::use_future);
        io.run();
        return blocked.get().empty() && changed.get() == std::vector<int>{SIGHUP, SIGINT, SIGQUIT, SIGTERM} ? 0 : 1;
      }),
      0);
}

pid_t own_pid() {
  return ::getpid();
}

int sum(int a, int b) {
  return a + b;
}

TEST(hygiene, a_worker_leaves_the_interrupt_from_the_keyboard_to_its_parent) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.workers = 1;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    const pid_t worker = co_await pool.submit(own_pid);
    ::kill(worker, SIGINT);
    ::kill(running_fork_server_of(::getpid()), SIGINT);
    ::kill(running_fork_server_of(::getpid()), SIGTERM);
    EXPECT_EQ(co_await pool.submit(sum, 40, 2), 42);
    EXPECT_EQ(co_await pool.submit(own_pid), worker);
  }());
}

std::vector<long> random_numbers() {
  return {std::rand(), ::random(), ::lrand48()};
}

TEST(hygiene, random_generators_differ_between_workers) {
  std::set<std::vector<long>> seen;
  for (int i = 0; i != 5; ++i) seen.insert(ask_one(options(), random_numbers));
  EXPECT_EQ(seen.size(), 5u);
  std::set<long> first;
  for (const auto& each : seen) first.insert(each.front());
  EXPECT_EQ(first.size(), 5u) << "rand() alone, too";
}

int niceness() {
  return ::getpriority(PRIO_PROCESS, 0);
}

TEST(hygiene, the_nice_value_is_added_to_that_of_the_application) {
  auto chosen = options();
  EXPECT_EQ(ask_one(chosen, niceness), niceness());
  chosen.nice = 7;
  EXPECT_EQ(ask_one(chosen, niceness), std::min(niceness() + 7, 19));
}

std::vector<int> allowed_cpus() {
  cpu_set_t set;
  ::sched_getaffinity(0, sizeof set, &set);
  std::vector<int> result;
  for (int cpu = 0; cpu != CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<unsigned>(cpu), &set)) result.push_back(cpu);
  }
  return result;
}

TEST(hygiene, workers_run_on_the_cpus_that_were_asked_for) {
  auto chosen = options();
  EXPECT_EQ(ask_one(chosen, allowed_cpus), allowed_cpus());
  chosen.cpu_affinity = {allowed_cpus().back()};
  EXPECT_EQ(shmpool::cpu_set(ask_one(chosen, allowed_cpus)), chosen.cpu_affinity);
}

std::uint64_t limit_of(int resource) {
  rlimit limit{};
  ::getrlimit(static_cast<__rlimit_resource_t>(resource), &limit);
  return limit.rlim_cur == limit.rlim_max ? limit.rlim_cur : 0;
}

TEST(hygiene, resource_limits_take_effect_in_the_workers_and_not_in_the_application) {
  auto chosen = options();
  chosen.rlimits = {{RLIMIT_CORE, 0}, {RLIMIT_NOFILE, 77}, {RLIMIT_STACK, 4 * 1024 * 1024}};
  run([&]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    EXPECT_EQ(co_await pool.submit(limit_of, RLIMIT_NOFILE), 77u);
    EXPECT_EQ(co_await pool.submit(limit_of, RLIMIT_STACK), 4u * 1024 * 1024);
  }());
  rlimit own{};
  ::getrlimit(RLIMIT_NOFILE, &own);
  EXPECT_NE(own.rlim_cur, 77u);
}

std::size_t allocate(std::size_t bytes) {
  const std::vector<char> memory(bytes, 'x');
  return memory.size();
}

TEST(hygiene, a_task_that_exceeds_its_address_space_gets_bad_alloc_and_nobody_else_is_concerned) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the sanitizer needs more address space than any limit";
#endif
  auto chosen = options();
  chosen.workers = 1;
  chosen.rlimits = {{RLIMIT_AS, std::uint64_t{1} << 30}};
  run([&]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    EXPECT_EQ(co_await pool.submit(allocate, 1'000'000), 1'000'000u);
    pending_result<std::size_t> refused;
    pool.submit(allocate, std::size_t{2} << 30, refused.handler());
    co_await refused.ended();
    EXPECT_THROW(if (refused.error()) std::rethrow_exception(refused.error()), std::bad_alloc);
    EXPECT_EQ(co_await pool.submit(allocate, 1'000'000), 1'000'000u);
    EXPECT_EQ(pool.stats().worker_deaths, 0u);
  }());
}

int oom_score() {
  int score = -1;
  std::ifstream("/proc/self/oom_score_adj") >> score;
  return score;
}

TEST(hygiene, the_out_of_memory_killer_takes_a_worker_first) {
  EXPECT_GT(ask_one(options(), oom_score), oom_score());
}

TEST(hygiene, the_out_of_memory_killer_takes_the_fork_server_no_sooner_than_the_application) {
  const int servers = run([]() -> asio::awaitable<int> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, options());
    co_await pool.submit(oom_score);
    int score = -1;
    std::ifstream("/proc/" + std::to_string(running_fork_server_of(::getpid())) + "/oom_score_adj") >> score;
    co_return score;
  }());
  EXPECT_EQ(servers, oom_score());
}

std::string variable(const std::string& name) {
  const char* const value = std::getenv(name.c_str());
  return value ? value : "(not set)";
}

// The fork server is started with a variable for the dynamic linker, which programs that a task executes must not
// inherit.
TEST(hygiene, a_worker_has_the_environment_of_the_application) {
  for (const char* name : {"LD_BIND_NOW", "PATH"})
    EXPECT_EQ(ask_one(options(), variable, std::string(name)), variable(name));
}

std::string process_name() {
  char name[17] = {};
  ::prctl(PR_GET_NAME, name);
  return name;
}

TEST(hygiene, processes_say_what_they_are) {
  EXPECT_EQ(ask_one(options(), process_name), "shmpool-worker");
  EXPECT_NE(fork_server_of(::getpid()), 0) << "found by its name";
}

bool in_worker() {
  return shmpool::this_task::in_worker();
}

TEST(hygiene, code_can_ask_whether_it_runs_in_a_worker) {
  EXPECT_TRUE(ask_one(options(), in_worker));
  EXPECT_FALSE(in_worker());
}

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);  // stays in the buffer: standard output is no terminal here
}

TEST(hygiene, what_a_task_prints_comes_out_when_the_pool_is_shut_down) {
  char name[] = "/tmp/shmpool_test_XXXXXX";
  const int file = ::mkstemp(name);
  EXPECT_EQ(in_child([&] {
              ::dup2(file, STDOUT_FILENO);
              asio::io_context io;
              shmpool::process_pool pool(io, options());
              pool.submit(print, std::string("printed\n"), asio::detached);
              pool.shutdown(asio::detached);
              io.run();
              return 0;
            }),
            0);
  std::string line;
  std::getline(std::ifstream(name), line);
  EXPECT_EQ(line, "printed");
  ::close(file);
  ::unlink(name);
}

}  // namespace
