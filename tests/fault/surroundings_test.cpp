// Programs in poor surroundings: without standard streams or a working directory, with a umask that takes everything
// away, whose file is replaced or removed while they run, or that cannot be started again.
#include "api/pool_fixture.hpp"

#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using shmpool::array;
using shmpool::errc;

/// A program that ends before main() can call init, as one does that prints its usage first, or whose libraries are
/// gone. Set in the environment by the test that wants it.
constexpr const char* ends_early = "SHMPOOL_TEST_ENDS_EARLY";
[[maybe_unused]] const bool ended_early = [] {
  if (const char* how = std::getenv(ends_early)) *how == 'e' ? ::_exit(3) : std::abort();
  return false;
}();

pid_t own_pid() {
  return ::getpid();
}

void hold(array<int>& flag) {
  show(flag, ::getpid());
  for (;;) ::poll(nullptr, 0, 1000);
}

void crash() {
  std::abort();
}

array<double> twice(array<const double> values) {
  auto result = shmpool::make_array<double>(values.size());
  for (std::size_t i = 0; i != values.size(); ++i) result[i] = 2 * values[i];
  return result;
}

/// The numbers of closed streams went to the pool's sockets, and those of a fork server's to its workers: what was
/// printed was taken for messages. Prints and reads as programs do, whether or not there is anything to print to;
/// returns what read() says.
ssize_t talk() {
  std::printf("printed by a worker\n");
  std::fflush(stdout);
  std::fprintf(stderr, "complained about by a worker\n");
  char byte = 0;
  for (int i = 0; i != 100; ++i) {
    [[maybe_unused]] auto out = ::write(STDOUT_FILENO, &byte, 1);
    [[maybe_unused]] auto error = ::write(STDERR_FILENO, &byte, 1);
  }
  return ::read(STDIN_FILENO, &byte, 1);
}

#define STEP(condition)                                                         \
  if (!(condition)) {                                                           \
    std::fprintf(stderr, "%s:%d: child: %s\n", __FILE__, __LINE__, #condition); \
    co_return __LINE__ % 250 + 1;                                               \
  }

/// Tasks, arrays, a worker that dies, a fork server that dies.
asio::awaitable<int> full_service() {
  shmpool::process_pool pool(co_await asio::this_coro::executor, options());
  const pid_t worker = co_await pool.submit(own_pid);
  STEP(worker != ::getpid());
  auto values = pool.make_array<double>(100'000, 21.0);
  STEP((co_await pool.submit(twice, values))[99'999] == 42.0);
  ::kill(worker, SIGKILL);
  STEP((co_await pool.submit(twice, values))[0] == 42.0);
  const pid_t server = running_fork_server_of(::getpid());
  ::kill(server, SIGKILL);
  STEP(happens([&] { return is_dead(server); }));
  STEP((co_await pool.submit(twice, values))[1] == 42.0);
  co_await pool.shutdown();
  STEP(pool.stats().workers == 0);
  co_return 0;
}

// ---- Standard streams.

class without_standard_streams : public ::testing::TestWithParam<int> {};

TEST_P(without_standard_streams, tasks_may_print_and_read_and_so_may_the_application) {
  EXPECT_EQ(in_child([] {
              asio::io_context io;  // has its descriptors before the numbers become free
              const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
              for (int standard = 0; standard != 3; ++standard) {
                if ((GetParam() >> standard & 1) != 0) ::close(standard);
                else ::dup2(null, standard);
              }
              return run(io, []() -> asio::awaitable<int> {
                shmpool::process_pool pool(co_await asio::this_coro::executor, options());
                for (int i = 0; i != 3; ++i) {
                  STEP(co_await pool.submit(talk) <= 0);
                  [[maybe_unused]] auto out = ::write(STDOUT_FILENO, "", 1);
                  [[maybe_unused]] auto error = ::write(STDERR_FILENO, "", 1);
                }
                STEP(pool.stats().worker_deaths == 0);
                const pid_t server = running_fork_server_of(::getpid());
                pending_result<void> crashed;
                pool.submit(crash, crashed.handler());
                co_await crashed.ended();
                STEP(as_worker_lost(crashed.error())->signal() == SIGABRT);
                STEP(co_await pool.submit(talk) <= 0);
                STEP(pool.stats().worker_deaths == 1);
                STEP(fork_server_of(::getpid()) == server);
                co_return co_await full_service();
              }());
            }),
            0);
}

INSTANTIATE_TEST_SUITE_P(which, without_standard_streams, ::testing::Range(1, 8), [](const auto& instance) {
  std::string name;
  for (const char* each : {"input", "output", "error"}) {
    const int number = std::string(each) == "input" ? 0 : std::string(each) == "output" ? 1 : 2;
    if ((instance.param >> number & 1) != 0) name += name.empty() ? each : std::string("_") + each;
  }
  return name;
});

// ---- Threads.

TEST(surroundings, the_main_thread_may_leave_before_the_others) {
  EXPECT_EQ(in_child([] {
              std::thread([main = ::gettid()] {
                process leader;
                const bool left = happens([&] { return look_at(main, leader) && leader.state == 'Z'; });
                ::_exit(left ? run(full_service()) : 1);
              }).detach();
              ::syscall(SYS_exit, 0);  // this thread only, as pthread_exit() does at the end of main()
              return 2;
            }),
            0);
}

TEST(surroundings, signals_may_be_blocked_in_every_thread) {
  EXPECT_EQ(in_child([] {
              sigset_t all;
              sigfillset(&all);
              ::sigprocmask(SIG_SETMASK, &all, nullptr);
              return run(full_service());
            }),
            0);
}

TEST(surroundings, signals_may_interrupt_every_system_call) {
  EXPECT_EQ(in_child([] {
              struct sigaction interrupt {};
              interrupt.sa_handler = [](int) {};  // without SA_RESTART
              ::sigaction(SIGUSR1, &interrupt, nullptr);
              std::atomic<bool> enough{false};
              std::thread nuisance([&, whom = ::getpid(), thread = ::gettid()] {
                while (!enough) {
                  ::syscall(SYS_tgkill, whom, thread, SIGUSR1);
                  ::poll(nullptr, 0, 0);
                }
              });
              int result = 0;
              for (int i = 0; i != 3 && result == 0; ++i) result = run(full_service());
              enough = true;
              nuisance.join();
              return result;
            }),
            0);
}

// ---- Files.

/// A directory that goes with all that is in it.
class temporary_directory {
 public:
  temporary_directory() {
    char name[] = "/tmp/shmpool_test_XXXXXX";
    if (!::mkdtemp(name)) throw std::system_error(errno, std::system_category(), "mkdtemp");
    path_ = name;
  }
  temporary_directory(const temporary_directory&) = delete;
  temporary_directory& operator=(const temporary_directory&) = delete;
  ~temporary_directory() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(surroundings, the_umask_may_take_everything_away_from_an_ordinary_user) {
  EXPECT_EQ(in_child([] {
              if (::geteuid() == 0 && (::setgid(65'534) != 0 || ::setuid(65'534) != 0))
                return 1;  // root may do anything
              ::umask(0777);
              return run(full_service());
            }),
            0);
}

/// It was no longer allowed to kill its workers, and waited for ever for one to end. What root's workers put into files
/// it may not read either, so that such results are errors; but nothing hangs, and nothing is left.
TEST(surroundings, an_application_that_gives_up_its_privileges_can_still_stop_tasks_and_end) {
  if (::geteuid() != 0) GTEST_SKIP() << "there is nothing to give up";
  EXPECT_EQ(in_child([] {
              return run([]() -> asio::awaitable<int> {
                auto chosen = options();
                chosen.workers = 1;
                chosen.cancel_grace = 0ms;
                shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
                const pid_t worker = co_await pool.submit(own_pid);
                signal_flag flag(pool), later_flag(pool);
                pending_result<void> held, held_later;
                asio::cancellation_signal cancel;
                pool.submit(hold, flag.memory, asio::bind_cancellation_slot(cancel.slot(), held.handler()));
                STEP(co_await until([&] { return flag.read() != 0; }));
                STEP(::setgid(65'534) == 0 && ::setuid(65'534) == 0);
                cancel.emit(asio::cancellation_type::terminal);
                co_await held.ended();
                STEP(code_of(held.error()) == make_error_code(asio::error::operation_aborted));
                STEP(co_await pool.submit(own_pid) != worker);
                auto values = pool.make_array<double>(100'000, 21.0);
                pending_result<array<double>> doubled;
                pool.submit(twice, values, doubled.handler());
                co_await doubled.ended();
                pool.submit(hold, later_flag.memory, held_later.handler());
                STEP(co_await until([&] { return later_flag.read() != 0 || held_later.done(); }));
                pool.stop();
                co_await held_later.ended();
                co_await pool.shutdown();
                STEP(pool.stats().workers == 0);
                co_return ::testing::Test::HasFailure() ? 1 : 0;
              }());
            }),
            0);
}

TEST(surroundings, a_worker_that_leaves_a_core_file_is_reported_like_any_other) {
  const temporary_directory cores;
  EXPECT_EQ(in_child([&] {
              rlimit all{};
              ::getrlimit(RLIMIT_CORE, &all);
              all.rlim_cur = all.rlim_max;
              if (::chdir(cores.path().c_str()) != 0 || ::setrlimit(RLIMIT_CORE, &all) != 0) return 1;
              return run([]() -> asio::awaitable<int> {
                shmpool::process_pool pool(co_await asio::this_coro::executor, options());
                pending_result<void> crashed;
                pool.submit(crash, crashed.handler());
                co_await crashed.ended();
                const auto lost = as_worker_lost(crashed.error());
                STEP(lost && lost->status_known() && lost->signal() == SIGABRT);
                co_return co_await full_service();
              }());
            }),
            0);
}

// ---- The program's own file.

class program_on_disk : public ::testing::TestWithParam<bool> {};

TEST_P(program_on_disk, may_be_replaced_or_removed_while_it_runs) {
  const temporary_directory bin;
  const std::string copy = bin.path() + "/program";
  std::filesystem::copy_file("/proc/self/exe", copy);
  const char* test = GetParam() ? "--gtest_filter=program_on_disk.DISABLED_replaced"
                                : "--gtest_filter=program_on_disk.DISABLED_removed";
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (::chdir(bin.path().c_str()) != 0) ::_exit(126);
    ::execl("./program", "./program", test, "--gtest_also_run_disabled_tests", "--gtest_brief=1",
            static_cast<char*>(nullptr));
    ::_exit(127);
  }
  int status = -1;
  ::waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
}

INSTANTIATE_TEST_SUITE_P(program, program_on_disk, ::testing::Bool(),
                         [](const auto& instance) { return instance.param ? "replaced" : "removed"; });

void outlive_the_file(bool replaced) {
  EXPECT_EQ(run([](bool replace) -> asio::awaitable<int> {
              const std::string file = std::filesystem::read_symlink("/proc/self/exe");
              STEP(file.ends_with("/program"));
              STEP(::chdir("/") == 0);  // it was started by a relative name
              shmpool::process_pool pool(co_await asio::this_coro::executor, options());
              const pid_t worker = co_await pool.submit(own_pid);
              if (replace) {
                std::ofstream(file + ".new") << "#!/bin/false\n";
                std::filesystem::permissions(file + ".new", std::filesystem::perms::owner_all);
                std::filesystem::rename(file + ".new", file);
              } else {
                std::filesystem::remove(file);
              }
              auto values = pool.make_array<double>(100'000, 21.0);
              STEP((co_await pool.submit(twice, values))[0] == 42.0);  // a function that no worker has seen yet
              ::kill(worker, SIGKILL);
              STEP(happens([&] { return is_gone(worker); }));
              STEP((co_await pool.submit(twice, values))[0] == 42.0);
              co_return co_await full_service();
            }(replaced)),
            0);
}

TEST(program_on_disk, DISABLED_replaced) {
  outlive_the_file(true);
}

TEST(program_on_disk, DISABLED_removed) {
  outlive_the_file(false);
}

/// The pool asked for a new server for ever, each of which ended at once, and the task waited for ever: as with any
/// program whose main() does something else before it calls init, and ends.
class program_that_cannot_be_started_again : public ::testing::TestWithParam<const char*> {};

TEST_P(program_that_cannot_be_started_again, breaks_the_pool_which_says_so) {
  EXPECT_EQ(in_child([] {
              ::setenv(ends_early, GetParam(), 1);
              return run([]() -> asio::awaitable<int> {
                // It may end before the pool is made or after: then the constructor says so, or the tasks.
                const auto executor = co_await asio::this_coro::executor;
                std::optional<shmpool::process_pool> pool;
                std::exception_ptr error = thrown_by([&] { pool.emplace(executor, options()); });
                STEP(!error || code_of(error) == errc::fork_server);
                for (int i = 0; pool && i != 2; ++i) {
                  pending_result<pid_t> result;
                  pool->submit(own_pid, result.handler());
                  co_await result.ended();
                  error = result.error();
                  STEP(code_of(error) == errc::pool_broken);
                }
                const char* end = *GetParam() == 'e' ? "exit code 3" : "signal 6";
                for (const char* word : {"fork server", end, "shmpool::init", "first line of main"}) {
                  STEP(text_of(error).find(word) != std::string::npos);
                }
                if (pool) co_await pool->shutdown();
                ::unsetenv(ends_early);
                co_return co_await full_service();  // of another pool, once the trouble is over
              }());
            }),
            0);
}

TEST_P(program_that_cannot_be_started_again, loses_the_pool_when_the_server_is_killed_and_says_so) {
  EXPECT_EQ(in_child([] {
              return run([]() -> asio::awaitable<int> {
                shmpool::process_pool pool(co_await asio::this_coro::executor, options());
                signal_flag flag(pool);
                pending_result<void> running;
                pool.submit(hold, flag.memory, running.handler());
                STEP(co_await until([&] { return flag.read() != 0; }));
                ::setenv(ends_early, GetParam(), 1);
                ::kill(running_fork_server_of(::getpid()), SIGKILL);
                co_await running.ended();
                STEP(code_of(running.error()) == errc::worker_lost || code_of(running.error()) == errc::pool_broken);
                pending_result<pid_t> late;
                pool.submit(own_pid, late.handler());
                co_await late.ended();
                STEP(code_of(late.error()) == errc::pool_broken);
                co_await pool.shutdown();
                STEP(is_dead(flag.read()));
                co_return 0;
              }());
            }),
            0);
}

INSTANTIATE_TEST_SUITE_P(each_way, program_that_cannot_be_started_again, ::testing::Values("exits", "aborts"),
                         [](const auto& instance) { return std::string(instance.param); });

}  // namespace
