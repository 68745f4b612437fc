// Promises about limits of the kernel that are reached in the application or in a worker: the task that needed more
// ends with errc::shm_exhausted, which says what ran out, and it costs no worker.
#include "loop/system_call_filter.hpp"
#include "support/faults.hpp"
#include "support/processes.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

namespace {

using namespace shmpool::testing;
using asio::awaitable;
using shmpool::array;
using shmpool::errc;
using shmpool::process_pool;

/// The pool has the one worker that it had, and nothing is left of what could not be had.
bool unharmed(process_pool& pool, std::size_t held) {
  const auto now = pool.stats();
  const bool good =
      now.workers_started == 1 && now.workers_killed == 0 && now.worker_deaths == 0 && now.live_segments == held;
  if (!good) {
    std::fprintf(stderr, "started %lu, killed %lu, died %lu, live segments %zu\n",
                 static_cast<unsigned long>(now.workers_started), static_cast<unsigned long>(now.workers_killed),
                 static_cast<unsigned long>(now.worker_deaths), now.live_segments);
  }
  return good;
}

std::size_t most_mappings() {
  std::size_t most = 0;
  std::ifstream("/proc/sys/vm/max_map_count") >> most;
  return most;
}

/// Takes all mappings that this process may have; gives them back.
class mapping_hog {
 public:
  static constexpr std::size_t page = 4096;

  mapping_hog() {
    single_.reserve(100);
    pages_ = most_mappings() + 1000;
    area_ = static_cast<std::byte*>(
        ::mmap(nullptr, pages_ * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    // Every other page another kind of mapping, until there are no more.
    for (std::size_t i = 1; i < pages_ && ::mprotect(area_ + i * page, page, PROT_READ) == 0; i += 2) {
    }
    // That takes two at a time.
    void* last;
    while ((last = ::mmap(nullptr, page, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED)
      single_.push_back(last);
  }
  mapping_hog(const mapping_hog&) = delete;
  mapping_hog& operator=(const mapping_hog&) = delete;
  ~mapping_hog() {
    for (void* each : single_) ::munmap(each, page);
    ::munmap(area_, pages_ * page);
  }

 private:
  std::byte* area_;
  std::size_t pages_;
  std::vector<void*> single_;
};

/// The same for descriptors.
class descriptor_hog {
 public:
  descriptor_hog() {
    int fd;
    while ((fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) all_.push_back(fd);
  }
  descriptor_hog(const descriptor_hog&) = delete;
  descriptor_hog& operator=(const descriptor_hog&) = delete;
  ~descriptor_hog() {
    for (const int fd : all_) ::close(fd);
  }

 private:
  std::vector<int> all_;
};

std::vector<array<double>> make_several(std::size_t number, std::size_t count) {
  std::vector<array<double>> all;
  while (all.size() != number) all.push_back(shmpool::make_array<double>(count, 1.0));
  return all;
}
array<double> make(std::size_t count) {
  return shmpool::make_array<double>(count, 1.0);
}
double first_of(array<const double> values) {
  return values[0];
}
int add(int a, int b) {
  return a + b;
}
// Strings of 16,000 characters, which travel in the message itself.
using strings = std::vector<std::string>;
strings texts(std::size_t count) {
  return strings(count, std::string(16'000, 'x'));
}
std::size_t count_of(const strings& all) {
  return all.size();
}

// ---- In a worker: what a task of it has taken stays until another gives it back.

std::optional<mapping_hog> mappings;
std::optional<descriptor_hog> descriptors;
void take_mappings() {
  mappings.emplace();
}
void take_descriptors() {
  descriptors.emplace();
}
void give_back() {
  mappings.reset();
  descriptors.reset();
}

// At 65,530 mappings the application killed healthy workers for a protocol violation, as it could not map what they
// returned.
TEST(lack, of_mappings_in_the_application_costs_no_worker) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer cannot do without mappings, either";
#endif
  if (most_mappings() == 0 || most_mappings() > 1'000'000) GTEST_SKIP() << "too many to take them all";
  EXPECT_EQ(in_child([] {
              return run([]() -> awaitable<int> {
                auto chosen = with_workers(1);
                chosen.backing = shmpool::backing::automatic;  // a memfd is made here: its worker never gets so far
                process_pool pool(co_await asio::this_coro::executor, chosen);
                { const auto warm = co_await pool.submit(make, 5 * some); }
                for (int i = 0; i != 3; ++i) {
                  std::exception_ptr error;
                  {
                    const mapping_hog all;
                    error = co_await end_of<std::vector<array<double>>>(pool, make_several, 20, some);
                  }
                  SHMPOOL_STEP(code_of(error) == errc::shm_exhausted && says(error, "mmap: Cannot allocate memory") &&
                               says(error, "vm.max_map_count"));
                }
                SHMPOOL_STEP(unharmed(pool, 0));
                SHMPOOL_STEP(pool.stats().failures.shm_exhausted == 3 && pool.stats().failed == 3);
                const auto made = co_await pool.submit(make, some);
                SHMPOOL_STEP(made[some - 1] == 1.0);
                SHMPOOL_STEP(unharmed(pool, 1));
                co_return 0;
              }());
            }),
            0);
}

TEST(lack, of_mappings_in_a_worker_fails_the_task_with_what_ran_out) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer cannot do without mappings, either";
#endif
  if (most_mappings() == 0 || most_mappings() > 1'000'000) GTEST_SKIP() << "too many to take them all";
  run([]() -> awaitable<void> {
    process_pool pool(co_await asio::this_coro::executor, with_workers(1));
    const auto values = pool.make_array<double>(some, 1.0);
    co_await pool.submit(take_mappings);
    const auto lent = co_await end_of<double>(pool, first_of, values);
    const auto made = co_await end_of<array<double>>(pool, make, some);
    for (const auto& error : {lent, made}) {
      EXPECT_EQ(code_of(error), errc::shm_exhausted) << text_of(error);
      EXPECT_TRUE(says(error, "mmap: Cannot allocate memory") && says(error, "vm.max_map_count"));
    }
    co_await pool.submit(give_back);
    EXPECT_EQ(co_await pool.submit(first_of, values), 1.0);
    EXPECT_EQ((co_await pool.submit(make, some))[0], 1.0);
    EXPECT_TRUE(unharmed(pool, 1));
  }());
}

// The mappings that a worker keeps for the next time are the first to go.
TEST(lack, of_mappings_in_a_worker_is_relieved_by_those_that_nobody_uses) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer cannot do without mappings, either";
#endif
  if (most_mappings() == 0 || most_mappings() > 1'000'000) GTEST_SKIP() << "too many to take them all";
  run([]() -> awaitable<void> {
    process_pool pool(co_await asio::this_coro::executor, with_workers(1));
    std::vector<array<double>> known;
    for (int i = 0; i != 40; ++i) known.push_back(pool.make_array<double>(some, double(i)));
    for (const auto& each : known) co_await pool.submit(first_of, each);
    const auto fresh = pool.make_array<double>(some, 7.0);
    co_await pool.submit(take_mappings);
    EXPECT_EQ(co_await pool.submit(first_of, fresh), 7.0);
    for (int i = 0; i != 40; ++i)
      EXPECT_EQ(co_await pool.submit(first_of, known[static_cast<std::size_t>(i)]), double(i)) << "mapped anew";
    co_await pool.submit(give_back);
    EXPECT_TRUE(unharmed(pool, 41));
  }());
}

// Where arrays have no names their descriptors are sent to the worker. One that could not be received left the stream
// without the bytes that came with it, and cost the worker.
TEST(lack, of_descriptors_in_a_worker_fails_the_task_with_what_ran_out) {
  run([]() -> awaitable<void> {
    for (const auto backing : {shmpool::backing::automatic, shmpool::backing::memfd}) {
      auto chosen = with_workers(1);
      chosen.backing = backing;
      process_pool pool(co_await asio::this_coro::executor, chosen);
      const auto values = pool.make_array<double>(some, 1.0);
      co_await pool.submit(take_descriptors);
      const auto error = co_await end_of<double>(pool, first_of, values);
      EXPECT_EQ(code_of(error), errc::shm_exhausted) << text_of(error);
      EXPECT_TRUE(says(error, "Too many open files") && says(error, "RLIMIT_NOFILE"));
      co_await pool.submit(give_back);
      EXPECT_EQ(co_await pool.submit(first_of, values), 1.0);
      EXPECT_TRUE(unharmed(pool, 1));
    }
  }());
}

TEST(lack, of_descriptors_in_the_application_costs_no_worker) {
  EXPECT_EQ(in_child([] {
              return run([]() -> awaitable<int> {
                auto chosen = with_workers(1);
                chosen.backing = shmpool::backing::posix;
                process_pool pool(co_await asio::this_coro::executor, chosen);
                co_await pool.submit(add, 1, 2);
                std::exception_ptr error;
                {
                  const descriptor_hog all;
                  error = co_await end_of<array<double>>(pool, make, some);
                }
                SHMPOOL_STEP(code_of(error) == errc::shm_exhausted && says(error, "open: Too many open files") &&
                             says(error, "RLIMIT_NOFILE"));
                SHMPOOL_STEP(unharmed(pool, 0));
                SHMPOOL_STEP((co_await pool.submit(make, some))[0] == 1.0);
                co_return 0;
              }());
            }),
            0);
}

// The receive buffer could not grow, and the pool was broken for all.
TEST(lack, of_memory_for_a_large_value_costs_no_worker_and_the_rest_of_the_stream_is_read) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need address space without a limit";
#endif
  EXPECT_EQ(in_child([] {
              return run([]() -> awaitable<int> {
                process_pool pool(co_await asio::this_coro::executor, with_workers(1));
                co_await pool.submit(add, 1, 2);
                std::size_t pages = 0;
                std::ifstream("/proc/self/statm") >> pages;
                const rlim_t limit = pages * 4096 + (rlim_t{100} << 20);
                const rlimit tight{limit, RLIM_INFINITY};
                ::setrlimit(RLIMIT_AS, &tight);
                pending_result<strings> large;
                pending_result<int> next;
                pool.submit(texts, 12'000, large.handler());
                pool.submit(add, 40, 2, next.handler());
                co_await large.ended();
                co_await next.ended();
                SHMPOOL_STEP(code_of(large.error()) == errc::shm_exhausted && says(large.error(), "bad_alloc"));
                SHMPOOL_STEP(next.succeeded() && next.value() == 42);
                SHMPOOL_STEP((co_await pool.submit(texts, 10)).size() == 10);
                SHMPOOL_STEP(unharmed(pool, 0));
                co_return 0;
              }());
            }),
            0);
}

TEST(lack, of_memory_for_large_arguments_in_a_worker_fails_the_task) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need address space without a limit";
#endif
  run([]() -> awaitable<void> {
    auto chosen = with_workers(1);
    chosen.rlimits = {{RLIMIT_AS, std::uint64_t{400} << 20}};
    process_pool pool(co_await asio::this_coro::executor, chosen);
    const auto error = co_await end_of<std::size_t>(pool, count_of, texts(15'000));
    EXPECT_EQ(code_of(error), errc::shm_exhausted) << text_of(error);
    EXPECT_TRUE(says(error, "RLIMIT_AS"));
    EXPECT_EQ(co_await pool.submit(count_of, texts(10)), 10u);
    EXPECT_TRUE(unharmed(pool, 0));
  }());
}

}  // namespace
