// Promises about a program whose clock somebody shifts, slows down or stops, as libfaketime does: deadlines pass all
// the same.
#include "pool/worker_channel.hpp"
#include "support/faults.hpp"
#include "support/processes.hpp"
#include "worker/request_stream.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <string>

namespace {

/// What the clock tells instead of t is shift + t * rate / 1000.
std::atomic<std::int64_t> shift{0}, rate{1000};

}  // namespace

/// In place of the C library's; std::chrono's clocks call it, the kernel's timers know nothing of it.
extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
  if (::syscall(SYS_clock_gettime, clock, time) != 0) return -1;
  if (shift == 0 && rate == 1000) return 0;
  constexpr std::int64_t second = 1'000'000'000;
  std::int64_t now = shift + (std::int64_t{time->tv_sec} * second + time->tv_nsec) / 1000 * rate;
  time->tv_nsec = static_cast<long>((now % second + second) % second);
  time->tv_sec = static_cast<time_t>((now - time->tv_nsec) / second);
  return 0;
}

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using asio::awaitable;
using shmpool::errc;
using shmpool::process_pool;

void for_ever() {
  for (;;) ::usleep(1000);
}
int add(int a, int b) {
  return a + b;
}

/// By a clock that is not faked.
double kernel_seconds() {
  timespec now{};
  ::syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

/// A deadline, the kill that follows it, and a second one by the worker that replaces the first.
awaitable<int> deadlines_pass(double least, double most) {
  auto chosen = with_workers(1);
  chosen.cancel_grace = 50ms;
  process_pool pool(co_await asio::this_coro::executor, chosen);
  SHMPOOL_STEP(co_await pool.submit(add, 40, 2) == 42);
  shmpool::task_options limited;
  limited.timeout = 100ms;
  for (int i = 0; i != 2; ++i) {
    const double begin = kernel_seconds();
    pending_result<void> result;
    pool.submit(limited, for_ever, result.handler());
    while (!result.done()) co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
    SHMPOOL_STEP(code_of(result.error()) == errc::deadline_exceeded);
    const double took = kernel_seconds() - begin;
    if (took < least || took > most) {
      std::fprintf(stderr, "it took %g s\n", took);
      co_return 1;
    }
  }
  SHMPOOL_STEP(co_await pool.submit(add, 40, 2) == 42);
  co_await pool.shutdown();
  co_return 0;
}

constexpr std::int64_t ten_years = std::int64_t{10} * 365 * 24 * 3600 * 1'000'000'000;

// The timer was set to a time of one clock, and the kernel waited for it by another: no deadline ever passed.
TEST(faked_clock, that_is_shifted_changes_no_deadline) {
  for (const std::int64_t by : {ten_years, -ten_years}) {
    EXPECT_EQ(in_child([by] {
                shift = by;
                return run(deadlines_pass(0.1, 20));
              }),
              0)
        << by;
  }
}

TEST(faked_clock, that_is_fast_or_slow_or_stands_still_lets_deadlines_pass) {
  EXPECT_EQ(in_child([] {
              rate = 5000;
              return run(deadlines_pass(0, 20));
            }),
            0);
  EXPECT_EQ(in_child([] {
              rate = 200;
              return run(deadlines_pass(0.1, 20));
            }),
            0);
  EXPECT_EQ(in_child([] {
              shift = ten_years;
              rate = 0;
              return run(deadlines_pass(0.1, 20));
            }),
            0);
}

// It asked the clock how long it had waited.
TEST(faked_clock, that_stands_still_lets_a_worker_see_that_it_has_nothing_to_do) {
  EXPECT_EQ(in_child([] {
              ::alarm(20);
              rate = 0;
              shmpool::pool::worker_channel parent(1);
              shmpool::worker::request_stream requests(parent.worker_end.get(), parent.control.page());
              requests.wait_at_most(50ms);
              return requests.receive() == shmpool::worker::request_stream::arrival::nothing ? 0 : 1;
            }),
            0);
}

TEST(faked_clock, DISABLED_program) {
  EXPECT_EQ(run(deadlines_pass(0, 20)), 0);
}

// Here workers and fork server have the same clock as the application.
TEST(faked_clock, of_libfaketime) {
  if (std::system("command -v faketime > /dev/null") != 0) GTEST_SKIP() << "libfaketime is not installed";
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers want to be loaded first";
#endif
  for (const char* time : {"-3650d", "+3650d", "2008-12-24 08:15:42", "+0x5"}) {
    const std::string program =
        "faketime -f '" + std::string(time) + "' " + std::filesystem::read_symlink("/proc/self/exe").string() +
        " --gtest_filter=faked_clock.DISABLED_program --gtest_also_run_disabled_tests --gtest_brief=1 > /dev/null";
    EXPECT_EQ(std::system(program.c_str()), 0) << time;
  }
}

}  // namespace
