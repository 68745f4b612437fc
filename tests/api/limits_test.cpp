// What a pool does when something runs out or is out of place: a clear error for the task that was concerned, and a
// pool that goes on.
#include "pool_fixture.hpp"

#include "loop/system_call_filter.hpp"
#include "shm/shm_fixture.hpp"
#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string>
#include <vector>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using shmpool::array;
using shmpool::errc;

using shmpool::shm::MiB;
using shmpool::shm::not_permitted;
using shmpool::shm::run_in_private_shm;

int add(int a, int b) {
  return a + b;
}

double first_of(array<const double> values) {
  return values[0];
}

double first_of_vector(const std::vector<double>& values) {
  return values[0];
}

array<double> make(std::size_t size) {
  auto result = shmpool::make_array<double>(size);
  result[size - 1] = 1;
  return result;
}

/// What one submit ends with.
template <class T, class... Args>
asio::awaitable<std::exception_ptr> error_of(shmpool::process_pool& pool, Args&&... args) {
  pending_result<T> result;
  pool.submit(std::forward<Args>(args)..., result.handler());
  co_await result.ended();
  co_return result.error();
}

/// 0, or which step of a child's test went wrong, said aloud.
#define STEP(condition)                                                         \
  if (!(condition)) {                                                           \
    std::fprintf(stderr, "%s:%d: child: %s\n", __FILE__, __LINE__, #condition); \
    co_return 1;                                                                \
  }

TEST(limits, an_argument_that_does_not_fit_the_budget_fails_its_submit_alone) {
  run([]() -> asio::awaitable<void> {
    auto chosen = options();
    chosen.max_shm_bytes = 4 * MiB;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    const std::vector<double> large(MiB, 1.0), small(MiB / 8, 2.0);
    const auto error = co_await error_of<double>(pool, first_of_vector, large);
    EXPECT_EQ(code_of(error), errc::shm_exhausted);
    EXPECT_NE(text_of(error).find("max_shm_bytes"), std::string::npos) << text_of(error);
    EXPECT_EQ(code_of(thrown_by([&] { pool.make_array<double>(MiB); })), errc::shm_exhausted);
    EXPECT_EQ(code_of(co_await error_of<array<double>>(pool, make, MiB)), errc::shm_exhausted) << "a result neither";
    EXPECT_EQ(co_await pool.submit(first_of_vector, small), 2.0);
    EXPECT_EQ((co_await pool.submit(make, MiB / 8))[MiB / 8 - 1], 1.0);
    EXPECT_EQ(pool.stats().worker_deaths, 0u);
    EXPECT_LE(pool.stats().peak_bytes, 4 * MiB);
  }());
}

/// Fills a /dev/shm of 1 MiB from three sides and expects `full` of each, then that smaller things work.
asio::awaitable<int> in_one_mebibyte(shmpool::backing how, bool expect_room) {
  auto chosen = options();
  chosen.backing = how;
  shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
  const std::vector<double> large(MiB, 3.0), small(10'000, 2.0);
  const auto argument = co_await error_of<double>(pool, first_of_vector, large);
  const auto own = thrown_by([&] { pool.make_array<double>(MiB, 1.0); });
  const auto result = co_await error_of<array<double>>(pool, make, MiB);
  for (const auto& each : {argument, own, result}) {
    if (expect_room) {
      STEP(!each);
    } else {
      STEP(code_of(each) == errc::shm_exhausted);
    }
  }
  STEP(co_await pool.submit(first_of_vector, small) == 2.0);
  STEP((co_await pool.submit(make, std::size_t{10'000}))[9'999] == 1.0);
  STEP(pool.stats().backing == (expect_room ? "memfd" : "posix"));
  STEP(pool.stats().worker_deaths == 0);
  co_await pool.shutdown();
  co_return 0;
}

TEST(limits, a_full_dev_shm_is_an_error_where_memory_has_to_be_there) {
  SHMPOOL_EXPECT_IN_PRIVATE_SHM("size=1m", [] { return run(in_one_mebibyte(shmpool::backing::posix, false)); });
}

TEST(limits, a_full_dev_shm_is_none_where_memory_may_be_anywhere) {
  SHMPOOL_EXPECT_IN_PRIVATE_SHM("size=1m", [] { return run(in_one_mebibyte(shmpool::backing::automatic, true)); });
}

TEST(limits, a_machine_without_dev_shm_will_do) {
  SHMPOOL_EXPECT_IN_PRIVATE_SHM(nullptr, [] {
    return run([]() -> asio::awaitable<int> {
      shmpool::process_pool pool(co_await asio::this_coro::executor, options());
      auto values = pool.make_array<double>(MiB, 5.0);
      STEP(co_await pool.submit(first_of, values) == 5.0);
      STEP((co_await pool.submit(make, MiB))[MiB - 1] == 1.0);
      co_return 0;
    }());
  });
}

void limit_descriptors(std::size_t spare) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  // Descriptors are numbered without gaps here, up to what is open.
  limit.rlim_cur = static_cast<rlim_t>(open_descriptors() + spare);
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

void close_above(int last) {
  ::syscall(SYS_close_range, static_cast<unsigned>(last + 1), ~0U, 0);
}

TEST(limits, at_the_descriptor_limit_no_pool_is_made_and_none_is_half_made) {
  EXPECT_EQ(in_child([] {
              close_above(2);
              asio::io_context io;
              const auto before = open_descriptors();
              int refused = 0;
              for (std::size_t spare = 1; spare != 30; ++spare) {
                limit_descriptors(spare);
                const auto error = thrown_by([&] { const shmpool::process_pool pool(io, options()); });
                rlimit limit{};
                ::getrlimit(RLIMIT_NOFILE, &limit);
                limit.rlim_cur = limit.rlim_max;
                ::setrlimit(RLIMIT_NOFILE, &limit);
                if (!error) break;
                ++refused;
                if (text_of(error).find("Too many open files") ==
                    std::string::npos) {  // whoever says it: Asio needs some, too
                  std::fprintf(stderr, "child: with %zu spare: %s\n", spare, text_of(error).c_str());
                  return 1;
                }
                if (open_descriptors() > before + 4) return 2;  // but for Asio's own, and the socket to the fork server
              }
              return refused > 2 ? 0 : 3;
            }),
            0);
}

TEST(limits, a_worker_for_which_no_descriptor_is_left_is_an_error_that_says_so_and_passes) {
  EXPECT_EQ(in_child([] {
              close_above(2);
              return run([]() -> asio::awaitable<int> {
                auto chosen = options();
                chosen.workers = 1;
                shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
                rlimit all{};
                ::getrlimit(RLIMIT_NOFILE, &all);
                for (std::size_t spare = 0; spare != 5; ++spare) {
                  std::vector<int> used;  // so that there are no gaps
                  limit_descriptors(spare);
                  const auto error = co_await error_of<int>(pool, add, 40, 2);
                  ::setrlimit(RLIMIT_NOFILE, &all);
                  if (!error) break;
                  STEP(code_of(error) == errc::worker_start_failed);
                  STEP(text_of(error).find("Too many open files") != std::string::npos);
                  STEP(spare < 4);
                }
                STEP(co_await pool.submit(add, 40, 2) == 42);
                co_return 0;
              }());
            }),
            0);
}

TEST(limits, a_fork_that_fails_is_an_error_that_says_so_and_passes) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs another uid, whose limit this is";
  const int status = in_child([] {
    // Of nobody, who may be at other things as well: a limit of none keeps him from forking anyway.
    if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) return 99;
    return run([]() -> asio::awaitable<int> {
      std::optional<shmpool::process_pool> pool;
      const auto executor = co_await asio::this_coro::executor;
      const auto refused = thrown_by([&] { pool.emplace(executor, options()); });
      if (refused) {
        std::fprintf(stderr, "child: %s\n", text_of(refused).c_str());
        co_return not_permitted;
      }
      const pid_t server = running_fork_server_of(::getpid());
      rlimit old{}, none{};
      STEP(::prlimit(server, RLIMIT_NPROC, nullptr, &old) == 0);
      none.rlim_cur = 0;
      none.rlim_max = old.rlim_max;
      STEP(::prlimit(server, RLIMIT_NPROC, &none, nullptr) == 0);
      const auto error = co_await error_of<int>(*pool, add, 40, 2);
      STEP(code_of(error) == errc::worker_start_failed);
      STEP(text_of(error).find("fork: Resource temporarily unavailable") != std::string::npos);
      STEP(::prlimit(server, RLIMIT_NPROC, &old, nullptr) == 0);
      STEP(co_await pool->submit(add, 40, 2) == 42);
      STEP(pool->stats().workers_started == 1);
      co_return 0;
    }());
  });
  if (WIFEXITED(status) && WEXITSTATUS(status) == not_permitted) GTEST_SKIP() << "nobody may not run this program";
  EXPECT_EQ(status, 0);
}

TEST(limits, where_io_uring_is_forbidden_epoll_serves_and_a_pool_that_insists_is_not_made) {
  EXPECT_EQ(in_child([] {
              if (!shmpool::loop::deny_system_call(SYS_io_uring_setup, EPERM)) return 0;  // no filters here
              return run([]() -> asio::awaitable<int> {
                const auto executor = co_await asio::this_coro::executor;
                shmpool::process_pool pool(executor, {.workers = 1});
                STEP(pool.stats().backend == "epoll");
                STEP(co_await pool.submit(add, 40, 2) == 42);
                const auto error = thrown_by([&] {
                  const shmpool::process_pool strict(executor, {.workers = 1, .backend = shmpool::backend::io_uring});
                });
                STEP(text_of(error).find("io_uring") != std::string::npos);
                STEP(code_of(error) == std::errc::operation_not_permitted);
                co_return 0;
              }());
            }),
            0);
}

std::size_t size_of_all(const std::string& first, const std::string& second) {
  return first.front() == 'a' && second.back() == 'b' ? first.size() + second.size() : 0;
}

// Everything that was queued for a worker left in one send, which the kernel refuses beyond 2 GiB: the rest of the
// stream was never sent. It leaves in pieces of 256 MiB.
TEST(limits, messages_may_be_larger_than_what_is_sent_at_once) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, options());
    constexpr std::size_t size = std::size_t{160} << 20;
    const std::size_t received = co_await pool.submit(size_of_all, std::string(size, 'a'), std::string(size, 'b'));
    EXPECT_EQ(received, 2 * size);
    EXPECT_EQ(co_await pool.submit(add, 40, 2), 42);
  }());
}

TEST(bad_input, a_function_of_no_module_is_refused) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, options());
    void* code = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const auto generated = reinterpret_cast<int (*)(int, int)>(code);
    std::exception_ptr error =
        thrown_by([&] { pool.submit(generated, 1, 2, [&](std::exception_ptr e, int) { error = e; }); });
    if (!error) {
      EXPECT_TRUE(co_await until([&] { return error != nullptr; }));
    }
    EXPECT_EQ(code_of(error), errc::function_not_found) << text_of(error);
    EXPECT_EQ(co_await pool.submit(add, 40, 2), 42);
    ::munmap(code, 4096);
  }());
}

}  // namespace
