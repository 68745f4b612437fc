// Options that make no sense are refused where they are given, with a text that names the option; those that only the
// kernel can judge break the pool with the kernel's reason.
#include "pool_fixture.hpp"

#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <sched.h>
#include <sys/resource.h>

#include <chrono>
#include <functional>
#include <limits>
#include <ostream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using shmpool::pool_options;

struct mistake {
  const char* option;
  void (*make)(pool_options&);
};

void PrintTo(const mistake& which, std::ostream* out) {
  *out << which.option;
}

const mistake mistakes[] = {
    {"workers", [](pool_options& all) { all.workers = 0; }},
    {"workers", [](pool_options& all) { all.workers = 4097; }},
    {"window", [](pool_options& all) { all.window = 0; }},
    {"window", [](pool_options& all) { all.window = 65; }},
    {"inline_bytes", [](pool_options& all) { all.inline_bytes = 1024 * 1024 + 1; }},
    {"cancel_grace", [](pool_options& all) { all.cancel_grace = -1ms; }},
    {"cache_idle", [](pool_options& all) { all.cache_idle = -1ms; }},
    {"nice", [](pool_options& all) { all.nice = -1; }},
    {"nice", [](pool_options& all) { all.nice = 20; }},
    {"cpu_affinity", [](pool_options& all) { all.cpu_affinity = {-1}; }},
    {"cpu_affinity",
     [](pool_options& all) {
       all.cpu_affinity = {0, CPU_SETSIZE};
     }},
    {"rlimits",
     [](pool_options& all) {
       all.rlimits.assign(17, {RLIMIT_CORE, 0});
     }},
    {"rlimits",
     [](pool_options& all) {
       all.rlimits = {{-1, 0}};
     }},
    {"rlimits",
     [](pool_options& all) {
       all.rlimits = {{RLIM_NLIMITS, 0}};
     }},
    {"backend", [](pool_options& all) { all.backend = static_cast<shmpool::backend>(77); }},
    {"backing", [](pool_options& all) { all.backing = static_cast<shmpool::backing>(77); }},
};

class bad_options : public ::testing::TestWithParam<mistake> {};

TEST_P(bad_options, are_refused_by_the_constructor_which_names_the_option) {
  asio::io_context io;
  auto chosen = options();
  GetParam().make(chosen);
  const auto before = open_descriptors();
  try {
    const shmpool::process_pool pool(io, chosen);
    ADD_FAILURE() << "accepted";
  } catch (const std::invalid_argument& error) {
    EXPECT_NE(std::string(error.what()).find(std::string("pool_options::") + GetParam().option), std::string::npos)
        << error.what();
  }
  EXPECT_EQ(open_descriptors(), before);
}

INSTANTIATE_TEST_SUITE_P(each, bad_options, ::testing::ValuesIn(mistakes));

int add(int a, int b) {
  return a + b;
}

TEST(extreme_options, are_accepted_and_work) {
  for (const auto make :
       {+[](pool_options& all) { all.workers = 4096; }, +[](pool_options& all) { all.window = 1; },
        +[](pool_options& all) { all.inline_bytes = 0; }, +[](pool_options& all) { all.inline_bytes = 1024 * 1024; },
        +[](pool_options& all) { all.cancel_grace = std::chrono::milliseconds::max(); },
        +[](pool_options& all) { all.cache_idle = std::chrono::milliseconds::max(); },
        +[](pool_options& all) { all.cache_idle = 0ms; }, +[](pool_options& all) { all.cache_bytes = 0; },
        +[](pool_options& all) { all.cache_bytes = std::numeric_limits<std::size_t>::max(); },
        +[](pool_options& all) { all.max_shm_bytes = std::numeric_limits<std::size_t>::max(); },
        +[](pool_options& all) { all.max_pending = 1; },
        +[](pool_options& all) {
          all.rlimits.assign(16, {RLIMIT_CORE, 0});
        }}) {
    run([](auto change) -> asio::awaitable<void> {
      auto chosen = options();
      change(chosen);
      shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
      EXPECT_EQ(co_await pool.submit(add, 40, 2), 42);
      auto values = pool.make_array<double>(10'000, 1.0);
      EXPECT_EQ(values[9'999], 1.0);
    }(make));
  }
}

TEST(options_that_the_kernel_refuses, break_the_pool_with_the_kernels_reason) {
  for (const auto& [text, make] : std::vector<std::pair<std::string, void (*)(pool_options&)>>{
           {"sched_setaffinity", [](pool_options& all) { all.cpu_affinity = {CPU_SETSIZE - 1}; }},
           // More than the kernel's own bound, for everybody.
           {"setrlimit", [](pool_options& all) {
              all.rlimits = {{RLIMIT_NOFILE, std::uint64_t{1} << 40}};
            }}}) {
    run([](std::string expected, auto change) -> asio::awaitable<void> {
      auto chosen = options();
      change(chosen);
      shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
      pending_result<int> failed;
      pool.submit(add, 40, 2, failed.handler());
      co_await failed.ended();
      EXPECT_EQ(code_of(failed.error()), shmpool::errc::pool_broken);
      EXPECT_NE(text_of(failed.error()).find(expected), std::string::npos) << text_of(failed.error());
    }(text, make));
  }
}

TEST(task_options_out_of_range, fail_the_submit_and_leave_the_pool_working) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, options());
    for (const shmpool::task_options& wrong :
         {shmpool::task_options{.timeout = -1ns}, shmpool::task_options{.idempotent = true, .attempts = 0},
          shmpool::task_options{.attempts = 2}}) {
      pending_result<int> failed;
      pool.submit(wrong, add, 40, 2, failed.handler());
      co_await failed.ended();
      EXPECT_THROW(if (failed.error()) std::rethrow_exception(failed.error()), std::invalid_argument);
      EXPECT_NE(text_of(failed.error()).find("task_options::"), std::string::npos) << text_of(failed.error());
    }
    EXPECT_EQ(co_await pool.submit(add, 40, 2), 42);
  }());
}

}  // namespace
