// What an application does to itself while it has pools, or before: it ignores its children, executes another program,
// becomes a daemon, leaves by exit() from a handler. The pool works, or is gone without a trace.
#include "api/pool_fixture.hpp"

#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using shmpool::array;

pid_t own_pid() {
  return ::getpid();
}

void hold(array<int>& flag) {
  show(flag, ::getpid());
  for (;;) ::poll(nullptr, 0, 1000);
}

/// Runs a task and says whether it was run by another process.
bool serves(asio::io_context& io, shmpool::process_pool& pool) {
  pending_result<pid_t> result;
  pool.submit(own_pid, result.handler());
  io.restart();
  io.run();
  return result.succeeded() && result.value() != ::getpid();
}

/// What a program tells the test of itself, in memory that both have: no descriptor and no pipe is needed for it.
struct facts {
  pid_t program = 0;
  pid_t server = 0;
  pid_t worker = 0;
  char prefix[64] = {};
  std::atomic<int> outcome{-1};  // written last; 0: all is well
};

class shared_facts {
 public:
  shared_facts() {
    void* memory = ::mmap(nullptr, sizeof(facts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::system_error(errno, std::system_category(), "mmap");
    all_ = new (memory) facts;
  }
  shared_facts(const shared_facts&) = delete;
  shared_facts& operator=(const shared_facts&) = delete;
  ~shared_facts() { ::munmap(all_, sizeof(facts)); }
  facts* operator->() const noexcept { return all_; }

 private:
  facts* all_;
};

void tell(facts& about, pid_t worker, int outcome) {
  about.program = ::getpid();
  about.server = fork_server_of(::getpid());
  about.worker = worker;
  if (const auto pools = pools_of(::getpid()); !pools.empty()) pools[0].copy(about.prefix, sizeof about.prefix - 1);
  about.outcome = outcome;
}

shmpool::pool_options named_options() {
  auto result = options();
  result.backing = shmpool::backing::posix;
  return result;
}

/// Orphans come to this process, so that it can see and reap them.
class application : public ::testing::Test {
 protected:
  application() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }
  ~application() override { ::prctl(PR_SET_CHILD_SUBREAPER, 0); }

  static bool dies(pid_t pid) {
    return happens(
        [&] {
          ::waitpid(pid, nullptr, WNOHANG);
          return is_dead(pid);
        },
        2s);
  }
};

// ---- Its children.

struct ignorance {
  const char* name;
  bool before_the_pool;
  bool by_flag;
};

class application_that_ignores_its_children : public ::testing::TestWithParam<ignorance> {};

TEST_P(application_that_ignores_its_children, learns_how_workers_died_and_gets_new_ones) {
  EXPECT_EQ(in_child([] {
              const auto ignore = [] {
                struct sigaction action {};
                action.sa_handler = GetParam().by_flag ? SIG_DFL : SIG_IGN;
                action.sa_flags = GetParam().by_flag ? SA_NOCLDWAIT : 0;
                ::sigaction(SIGCHLD, &action, nullptr);
              };
              if (GetParam().before_the_pool) ignore();
              return run([](auto and_now) -> asio::awaitable<int> {
                shmpool::process_pool pool(co_await asio::this_coro::executor, options());
                signal_flag flag(pool);
                pending_result<void> doomed;
                pool.submit(hold, flag.memory, doomed.handler());
                if (!co_await until([&] { return flag.read() != 0; })) co_return 1;
                if (!GetParam().before_the_pool) and_now();
                ::kill(flag.read(), SIGKILL);
                co_await doomed.ended();
                const auto lost = as_worker_lost(doomed.error());
                if (!lost || lost->signal() != SIGKILL) co_return 2;
                const pid_t server = running_fork_server_of(::getpid());
                ::kill(server, SIGKILL);
                if (!happens([&] { return is_gone(server); })) co_return 3;  // the kernel has reaped it
                if (co_await pool.submit(own_pid) == ::getpid()) co_return 4;
                co_await pool.shutdown();
                co_return ::testing::Test::HasFailure() ? 5 : 0;
              }(ignore));
            }),
            0);
}

INSTANTIATE_TEST_SUITE_P(each_way, application_that_ignores_its_children,
                         ::testing::Values(ignorance{"by_a_flag_before", true, true},
                                           ignorance{"by_a_flag_after", false, true},
                                           ignorance{"by_disposition_after", false, false}),
                         [](const auto& instance) { return std::string(instance.param.name); });

// ---- Another program in its place.

/// A process that has a busy pool and executes another program, perhaps while a copy that it has forked lives on.
void become_another_program(facts& about, bool with_a_copy) {
  asio::io_context io;
  shmpool::process_pool pool(io, named_options());
  auto values = pool.make_array<double>(100'000, 1.0);
  signal_flag flag(pool);
  pool.submit(hold, flag.memory, asio::detached);
  while (flag.read() == 0) io.poll();
  if (with_a_copy && ::fork() == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) ::pause();
  }
  tell(about, flag.read(), 0);
  ::execl("/bin/sleep", "sleep", "60", static_cast<char*>(nullptr));
  about.outcome = 1;
}

class application_that_executes_another_program : public application, public ::testing::WithParamInterface<bool> {};

TEST_P(application_that_executes_another_program, leaves_no_process_and_no_name) {
  const shared_facts told;
  const pid_t program = ::fork();
  if (program == 0) {
    become_another_program(*told.operator->(), GetParam());
    ::_exit(1);
  }
  EXPECT_TRUE(happens([&] { return told->outcome == 0; }));
  ASSERT_NE(told->prefix[0], '\0');
  process now;
  EXPECT_TRUE(happens([&] { return look_at(program, now) && now.name == "sleep"; }));
  EXPECT_TRUE(dies(told->worker));
  EXPECT_TRUE(dies(told->server));
  EXPECT_TRUE(happens([&] { return names_with(told->prefix).empty(); }, 2s));
  ::kill(program, SIGKILL);
  ::waitpid(program, nullptr, 0);
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }
}

INSTANTIATE_TEST_SUITE_P(with_and_without_a_forked_copy, application_that_executes_another_program, ::testing::Bool(),
                         [](const auto& instance) { return instance.param ? "a_copy_lives_on" : "alone"; });

// ---- Daemons.

struct habits {
  const char* name;
  bool forks_twice;
  bool closes_descriptors;
};

class application_that_becomes_a_daemon : public application, public ::testing::WithParamInterface<habits> {};

/// What daemons do, in the order of the books.
void become_a_daemon(const habits& how) {
  if (::fork() != 0) ::_exit(0);
  ::setsid();
  if (how.forks_twice && ::fork() != 0) ::_exit(0);
  ::umask(0);
  [[maybe_unused]] const int changed = ::chdir("/");
  if (!how.closes_descriptors) return;
  ::syscall(SYS_close_range, 3U, ~0U, 0);
  const int null = ::open("/dev/null", O_RDWR);
  for (int standard = 0; standard != 3; ++standard) ::dup2(null, standard);
  ::close(null);
}

TEST_P(application_that_becomes_a_daemon, has_pools_afterwards_and_leaves_nothing) {
  const shared_facts told;
  const pid_t program = ::fork();
  if (program == 0) {
    become_a_daemon(GetParam());
    asio::io_context io;
    shmpool::process_pool pool(io, named_options());
    const bool works = serves(io, pool);
    const auto workers = workers_of(::getpid());
    tell(*told.operator->(), workers.empty() ? 0 : workers[0], works ? 0 : 1);
    for (;;) ::pause();  // it is killed, as daemons are
  }
  int status = -1;
  ::waitpid(program, &status, 0);
  EXPECT_EQ(status, 0) << "the shell's child is done";
  ASSERT_TRUE(happens([&] { return told->outcome != -1; }));
  EXPECT_EQ(told->outcome, 0);
  ASSERT_NE(told->program, 0);
  EXPECT_FALSE(names_with(told->prefix).empty());
  ::kill(told->program, SIGKILL);
  EXPECT_TRUE(dies(told->program));
  EXPECT_TRUE(dies(told->worker));
  EXPECT_TRUE(dies(told->server));
  EXPECT_TRUE(names_with(told->prefix).empty());
}

INSTANTIATE_TEST_SUITE_P(each_habit, application_that_becomes_a_daemon,
                         ::testing::Values(habits{"forks_once", false, false}, habits{"forks_twice", true, false},
                                           habits{"closes_all_descriptors", true, true}),
                         [](const auto& instance) { return std::string(instance.param.name); });

// ---- The end of main() from within.

/// Where a program that is started afresh leaves what it has to tell.
class note {
 public:
  note() {
    char name[] = "/tmp/shmpool_test_XXXXXX";
    const int fd = ::mkstemp(name);
    ::close(fd);
    path_ = name;
    ::setenv(variable, name, 1);
  }
  note(const note&) = delete;
  note& operator=(const note&) = delete;
  ~note() {
    ::unsetenv(variable);
    ::unlink(path_.c_str());
  }
  std::string read() const {
    std::string result;
    std::ifstream(path_) >> result;
    return result;
  }
  static void write(const std::string& text) { std::ofstream(std::getenv(variable)) << text; }

 private:
  static constexpr const char* variable = "SHMPOOL_TEST_NOTE";
  std::string path_;
};

/// Two tasks that never end, and one whose handler calls exit().
void exit_from_a_handler(asio::io_context& io, shmpool::process_pool& pool) {
  note::write(pools_of(::getpid()).at(0));
  static std::optional<signal_flag> first, second;  // outlive the stack that exit() leaves
  first.emplace(pool);
  second.emplace(pool);
  pool.submit(hold, first->memory, asio::detached);
  pool.submit(hold, second->memory, asio::detached);
  while (first->read() == 0 || second->read() == 0) io.poll();
  asio::cancellation_signal cancel;
  pool.submit(own_pid, asio::bind_cancellation_slot(cancel.slot(), [](std::exception_ptr, pid_t) { std::exit(42); }));
  cancel.emit(asio::cancellation_type::total);
  io.restart();
  io.run();
}

class application_that_calls_exit_from_a_handler : public application {
 protected:
  void expect_a_clean_end(const char* program) {
    const note told;
    const int status = run_as_program(program);
    ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
    EXPECT_EQ(WEXITSTATUS(status), 42);
    ASSERT_TRUE(told.read().starts_with("shmpool.")) << told.read();
    EXPECT_EQ(names_with(told.read()), std::vector<std::string>());
    const pid_t own = fork_server_of(::getpid());
    for (const process& each : children_of(::getpid())) EXPECT_EQ(each.pid, own) << each.name << " was left behind";
  }
};

TEST_F(application_that_calls_exit_from_a_handler, leaves_nothing_of_a_pool_that_is_never_destroyed) {
  expect_a_clean_end("application_that_calls_exit_from_a_handler.DISABLED_of_a_local_pool");
}

TEST_F(application_that_calls_exit_from_a_handler, DISABLED_of_a_local_pool) {
  asio::io_context io;
  shmpool::process_pool pool(io, named_options());
  exit_from_a_handler(io, pool);
}

TEST_F(application_that_calls_exit_from_a_handler, leaves_nothing_of_a_pool_that_static_destructors_destroy) {
  expect_a_clean_end("application_that_calls_exit_from_a_handler.DISABLED_of_a_static_pool");
}

TEST_F(application_that_calls_exit_from_a_handler, DISABLED_of_a_static_pool) {
  static asio::io_context io;
  static shmpool::process_pool pool(io, named_options());
  exit_from_a_handler(io, pool);
}

TEST_F(application_that_calls_exit_from_a_handler, leaves_nothing_while_other_threads_run_the_context) {
  expect_a_clean_end("application_that_calls_exit_from_a_handler.DISABLED_among_threads");
}

TEST_F(application_that_calls_exit_from_a_handler, DISABLED_among_threads) {
  auto& io = *new asio::io_context;  // for ever: others run it
  static shmpool::process_pool pool(io, named_options());
  io.get_executor().on_work_started();
  for (int i = 0; i != 3; ++i) std::thread([&io] { io.run(); }).detach();
  exit_from_a_handler(io, pool);
}

}  // namespace
