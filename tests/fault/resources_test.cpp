// Promises about resources that run out, or are forbidden, while a pool is at work: an error that names it, and a pool
// that goes on. See also api/limits_test.cpp.
#include "api/pool_fixture.hpp"

#include "loop/system_call_filter.hpp"
#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <new>
#include <set>
#include <string>
#include <vector>

namespace {

/// How many of the next processes that are to be waited for through epoll are refused, as where all watches of the user
/// are taken.
std::atomic<int> processes_refused{0};

}  // namespace

/// In place of the C library's.
extern "C" int epoll_ctl(int epoll, int operation, int fd, epoll_event* event) noexcept {
  if (processes_refused > 0 && operation == EPOLL_CTL_ADD) {
    std::error_code none;
    const std::string what = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), none);
    if (what.find("pidfd") != std::string::npos) {
      --processes_refused;
      errno = ENOSPC;
      return -1;
    }
  }
  return static_cast<int>(::syscall(SYS_epoll_ctl, epoll, operation, fd, event));
}

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using asio::awaitable;
using shmpool::array;
using shmpool::errc;
using shmpool::process_pool;

int add(int a, int b) {
  return a + b;
}

double first_of(array<const double> values) {
  return values[0];
}

std::size_t use(std::size_t bytes) {
  const std::vector<char> memory(bytes, 'x');
  return memory.size();
}

array<double> make(std::size_t count) {
  return shmpool::make_array<double>(count, 1.0);
}

void leave() {
  ::_exit(3);
}

void kill_fork_server() {
  ::kill(::getppid(), SIGKILL);
  for (;;) ::pause();
}

int nap() {
  ::usleep(50'000);
  return 7;
}

void for_ever() {
  for (;;) ::usleep(1000);
}

/// Descriptors of the worker, but for the one that counts.
std::size_t count_descriptors() {
  return open_descriptors();
}

/// What one submit ends with.
template <class T, class... Args>
awaitable<std::exception_ptr> error_of(process_pool& pool, Args&&... args) {
  pending_result<T> result;
  pool.submit(std::forward<Args>(args)..., result.handler());
  co_await result.ended();
  co_return result.error();
}

shmpool::pool_options one_worker() {
  auto chosen = options();
  chosen.workers = 1;
  return chosen;
}

/// For children, where no assertion can report.
#define STEP(condition)                                                         \
  if (!(condition)) {                                                           \
    std::fprintf(stderr, "%s:%d: child: %s\n", __FILE__, __LINE__, #condition); \
    co_return 1;                                                                \
  }

rlim_t set_limit(pid_t process, int resource, rlim_t value) {
  rlimit old{};
  ::prlimit(process, static_cast<__rlimit_resource>(resource), nullptr, &old);
  const rlimit next{value, old.rlim_max};
  ::prlimit(process, static_cast<__rlimit_resource>(resource), &next, nullptr);
  return old.rlim_cur;
}

/// The limit that leaves a fork server so many descriptors of its own: their numbers are above all that a program may
/// use.
rlim_t limit_that_leaves(pid_t server, rlim_t spare) {
  std::set<rlim_t> used;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(server) + "/fd")) {
    if (const rlim_t number = std::stoul(entry.path().filename()); number > STDERR_FILENO) used.insert(number);
  }
  rlim_t limit = *used.begin();
  for (rlim_t left = spare; used.contains(limit) || left != 0; ++limit) {
    if (!used.contains(limit)) --left;
  }
  return limit;
}

// Two of 400 failed, on a busy machine: a worker that was forked, and then had no pidfd, ran the task before it was
// killed.
TEST(resources, a_fork_server_without_descriptors_starts_no_worker_and_says_so_until_it_has_some) {
  run([]() -> awaitable<void> {
    process_pool pool(co_await asio::this_coro::executor, one_worker());
    EXPECT_EQ(co_await pool.submit(add, 1, 2), 3);
    const pid_t server = running_fork_server_of(::getpid());
    // Its worker leaves, so that the next submit needs another.
    EXPECT_EQ(code_of(co_await error_of<void>(pool, leave)), errc::worker_lost);
    int refused = 0;
    for (rlim_t spare = 0; spare != 8; ++spare) {
      const rlim_t old = set_limit(server, RLIMIT_NOFILE, limit_that_leaves(server, spare));
      const auto error = co_await error_of<int>(pool, add, 40, 2);
      set_limit(server, RLIMIT_NOFILE, old);
      if (!error) break;
      ++refused;
      EXPECT_EQ(code_of(error), errc::worker_start_failed) << text_of(error);
      EXPECT_NE(text_of(error).find("Too many open files"), std::string::npos) << text_of(error);
    }
    EXPECT_GE(refused, 2) << "two descriptors come with the request, and a pidfd is made";
    EXPECT_LE(refused, 4);
    EXPECT_EQ(co_await pool.submit(add, 40, 2), 42);
  }());
}

// A single refusal broke the pool for good.
TEST(resources, a_fork_server_that_cannot_be_started_again_for_the_moment_is_started_when_it_can) {
  EXPECT_EQ(in_child([] {
              return run([]() -> awaitable<int> {
                process_pool pool(co_await asio::this_coro::executor, one_worker());
                STEP(co_await pool.submit(add, 1, 2) == 3);
                const pid_t server = running_fork_server_of(::getpid());
                const pid_t worker = workers_of(::getpid()).at(0);
                ::kill(server, SIGKILL);
                STEP(co_await until([&] { return is_dead(worker); }));
                const rlim_t old = set_limit(::getpid(), RLIMIT_NOFILE, 3);
                const auto error = co_await error_of<int>(pool, add, 40, 2);
                set_limit(::getpid(), RLIMIT_NOFILE, old);
                STEP(code_of(error) == errc::worker_start_failed);
                STEP(text_of(error).find("Too many open files") != std::string::npos);
                STEP(co_await pool.submit(add, 40, 2) == 42);
                STEP(running_fork_server_of(::getpid()) != server);
                co_return 0;
              }());
            }),
            0);
}

TEST(resources, a_pool_whose_fork_server_cannot_be_started_is_not_made_and_the_next_one_is) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs another uid, whose limit of processes this is";
  constexpr int not_permitted = 77;
  const int status = in_child([] {
    if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) return 99;
    if (::access("/proc/self/exe", X_OK) != 0) return not_permitted;
    return run([]() -> awaitable<int> {
      const auto executor = co_await asio::this_coro::executor;
      const rlim_t old = set_limit(::getpid(), RLIMIT_NPROC, 0);
      const auto refused = thrown_by([&] { const process_pool pool(executor, one_worker()); });
      set_limit(::getpid(), RLIMIT_NPROC, old);
      STEP(code_of(refused) == errc::fork_server);
      STEP(text_of(refused).find("posix_spawn") != std::string::npos);
      STEP(text_of(refused).find("Resource temporarily unavailable") != std::string::npos);
      process_pool pool(executor, one_worker());
      STEP(co_await pool.submit(add, 40, 2) == 42);
      co_return 0;
    }());
  });
  if (WIFEXITED(status) && WEXITSTATUS(status) == not_permitted) GTEST_SKIP() << "nobody may not run this program";
  EXPECT_EQ(status, 0);
}

TEST(resources, memory_that_a_worker_may_not_have_is_an_error_of_its_task) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "no program lives with a limited address space and AddressSanitizer";
#endif
  run([]() -> awaitable<void> {
    auto chosen = one_worker();
    chosen.rlimits = {{RLIMIT_AS, std::uint64_t{192} << 20}};
    process_pool pool(co_await asio::this_coro::executor, chosen);
    const auto too_much = co_await error_of<std::size_t>(pool, use, std::size_t{1} << 30);
    EXPECT_THROW(std::rethrow_exception(too_much), std::bad_alloc);
    // Neither an array that it is lent nor one that it makes has room.
    auto large = pool.make_array<double>((std::size_t{200} << 20) / sizeof(double));
    large[0] = 4.0;
    const auto lent = co_await error_of<double>(pool, first_of, large);
    EXPECT_EQ(code_of(lent), errc::shm_exhausted) << text_of(lent);
    EXPECT_NE(text_of(lent).find("in a worker: mmap: Cannot allocate memory; RLIMIT_AS"), std::string::npos)
        << text_of(lent);
    const auto made = co_await error_of<array<double>>(pool, make, (std::size_t{200} << 20) / sizeof(double));
    EXPECT_EQ(code_of(made), errc::shm_exhausted) << text_of(made);
    EXPECT_EQ(co_await pool.submit(add, 40, 2), 42);
    EXPECT_EQ(pool.stats().worker_deaths, 0u);
    EXPECT_EQ(pool.stats().workers_started, 1u);
  }());
}

// To make a file longer than the limit kills: the application died of SIGXFSZ.
TEST(resources, control_memory_beyond_the_limit_of_a_files_size_is_an_error_that_names_it) {
  EXPECT_EQ(in_child([] {
              return run([]() -> awaitable<int> {
                process_pool pool(co_await asio::this_coro::executor, one_worker());
                const rlim_t old = set_limit(::getpid(), RLIMIT_FSIZE, 64 * 1024);
                const auto error = co_await error_of<int>(pool, add, 40, 2);
                set_limit(::getpid(), RLIMIT_FSIZE, old);
                STEP(code_of(error) == errc::worker_start_failed);
                STEP(text_of(error).find("control memory") != std::string::npos);
                STEP(text_of(error).find("RLIMIT_FSIZE") != std::string::npos);
                STEP(co_await pool.submit(add, 40, 2) == 42);
                co_return 0;
              }());
            }),
            0);
}

/// Runs `body` where a system call fails from some point on; passes where filters are not allowed.
template <class Body>
void expect_without(Body body) {
  EXPECT_EQ(in_child([&] { return run(body()); }), 0);
}

/// A memory cgroup of this process's own; where it cannot be made, path() is empty.
class memory_group {
 public:
  explicit memory_group(std::size_t bytes) {
    const std::string name = "/shmpool_test_" + std::to_string(::getpid());
    for (const auto& [base, limit] :
         {std::pair{"/sys/fs/cgroup/memory", "/memory.limit_in_bytes"}, std::pair{"/sys/fs/cgroup", "/memory.max"}}) {
      std::error_code error;
      if (!std::filesystem::create_directory(base + name, error)) continue;
      if (write(base + name + limit, bytes)) {
        path_ = base + name;
        return;
      }
      std::filesystem::remove(base + name, error);
    }
  }
  memory_group(const memory_group&) = delete;
  memory_group& operator=(const memory_group&) = delete;
  ~memory_group() {
    // It goes when its last process has, which may be the fork server.
    std::error_code error;
    EXPECT_TRUE(path_.empty() || happens([&] { return std::filesystem::remove(path_, error); })) << error.message();
  }
  const std::string& path() const { return path_; }

  static bool write(const std::string& file, std::size_t number) {
    std::FILE* to = std::fopen(file.c_str(), "we");
    if (!to) return false;
    const bool printed = std::fprintf(to, "%zu\n", number) > 0;
    return std::fclose(to) == 0 && printed;
  }

 private:
  std::string path_;
};

// The kernel kills the worker first: its oom_score_adj is above the application's.
TEST(resources, a_task_that_takes_more_than_the_memory_of_its_cgroup_costs_its_worker_alone) {
  const memory_group group(std::size_t{256} << 20);
  if (group.path().empty()) GTEST_SKIP() << "no memory cgroup can be made here";
  EXPECT_EQ(in_child([&] {
              if (!memory_group::write(group.path() + "/cgroup.procs", static_cast<std::size_t>(::getpid()))) return 1;
              return run([]() -> awaitable<int> {
                process_pool pool(co_await asio::this_coro::executor, one_worker());
                for (int i = 0; i != 2; ++i) {
                  if (co_await pool.submit(add, 40, 2) != 42) co_return 2;
                  const auto lost = as_worker_lost(co_await error_of<std::size_t>(pool, use, std::size_t{1} << 30));
                  if (!lost || lost->signal() != SIGKILL) co_return 3;
                }
                if (co_await pool.submit(add, 40, 2) != 42) co_return 4;
                co_await pool.shutdown();
                co_return 0;
              }());
            }),
            0);
}

// Closing was left out, and the worker had whatever the fork server had open.
TEST(resources, without_close_range_a_worker_has_no_more_descriptors_than_with_it) {
  expect_without([]() -> awaitable<int> {
    const auto executor = co_await asio::this_coro::executor;
    const int inherited = ::dup(STDERR_FILENO);  // of the application, and not close-on-exec
    std::size_t with = 0;
    {
      process_pool pool(executor, one_worker());
      with = co_await pool.submit(count_descriptors);
      ::kill(running_fork_server_of(::getpid()), SIGKILL);
    }
    if (!shmpool::loop::deny_system_call(SYS_close_range, ENOSYS)) co_return 0;
    process_pool pool(executor, one_worker());
    STEP(co_await pool.submit(count_descriptors) == with);
    ::close(inherited);
    co_return 0;
  });
}

// The task ran on, and its operation never completed.
TEST(resources, where_signals_by_pidfd_are_forbidden_a_task_is_killed_nonetheless) {
  expect_without([]() -> awaitable<int> {
    if (!shmpool::loop::deny_system_call(SYS_pidfd_send_signal, EPERM)) co_return 0;
    auto chosen = one_worker();
    chosen.cancel_grace = 10ms;
    process_pool pool(co_await asio::this_coro::executor, chosen);
    pending_result<void> result;
    pool.submit(shmpool::task_options{.timeout = 20ms}, for_ever, result.handler());
    co_await result.ended();
    STEP(code_of(result.error()) == errc::deadline_exceeded);
    STEP(co_await pool.submit(add, 40, 2) == 42);
    co_return 0;
  });
}

// Nobody waited for the worker's end then, and when its fork server, which would have told, was killed, nobody told.
TEST(resources, a_worker_whose_end_cannot_be_waited_for_at_first_is_not_waited_for_in_vain) {
  run([]() -> awaitable<void> {
    auto chosen = one_worker();
    chosen.backend = shmpool::backend::epoll;
    process_pool pool(co_await asio::this_coro::executor, chosen);
    processes_refused = 1;
    EXPECT_EQ(code_of(co_await error_of<void>(pool, kill_fork_server)), errc::worker_lost);
    EXPECT_EQ(processes_refused, 0);
    EXPECT_EQ(co_await pool.submit(add, 40, 2), 42);
  }());
}

// The error left run(), and the pool never completed anything again.
TEST(resources, an_io_uring_that_is_forbidden_while_a_pool_uses_it_breaks_that_pool_with_its_name) {
  expect_without([]() -> awaitable<int> {
    auto chosen = one_worker();
    chosen.backend = shmpool::backend::automatic;
    const auto executor = co_await asio::this_coro::executor;
    process_pool pool(executor, chosen);
    if (pool.stats().backend != "io_uring") co_return 0;
    STEP(co_await pool.submit(add, 1, 2) == 3);
    pending_result<int> running;
    pool.submit(nap, running.handler());
    STEP(co_await until([&] { return pool.stats().assigned == 1; }));
    if (!shmpool::loop::deny_system_call(SYS_io_uring_enter, EPERM)) co_return 0;
    // Calls to a worker that is awake need nothing of the kernel, and may succeed; to wait for a new worker's end does.
    co_await error_of<void>(pool, leave);
    std::exception_ptr error;
    while (!error) error = co_await error_of<int>(pool, add, 40, 2);
    co_await running.ended();
    STEP(running.succeeded() && running.value() == 7);  // what the kernel had been given already goes on
    STEP(code_of(error) == errc::pool_broken);
    STEP(text_of(error).find("io_uring") != std::string::npos);
    STEP(text_of(error).find("Operation not permitted") != std::string::npos);
    STEP(co_await until(
        [&] { return workers_of(::getpid()).empty(); }));  // the server reaps the last one in its own time
    co_await pool.shutdown();
    process_pool next(executor, chosen);
    STEP(next.stats().backend == "epoll");
    STEP(co_await next.submit(add, 40, 2) == 42);
    co_return 0;
  });
}

}  // namespace
