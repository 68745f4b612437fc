// What is wrong with options, and what follows from them. The texts are those that users read.
#include "pool/option_checks.hpp"

#include <gtest/gtest.h>

#include <sys/resource.h>

#include <chrono>
#include <limits>
#include <stdexcept>
#include <string>

namespace shmpool::pool {
namespace {

using namespace std::chrono_literals;

template <class Options>
std::string complaint(const Options& options) {
  try {
    check(options);
    return "";
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
}

bool names(const std::string& text, const char* option) {
  return text.find(option) != std::string::npos;
}

TEST(option_checks, accept_what_is_left_out) {
  EXPECT_EQ(complaint(pool_options{}), "");
  EXPECT_EQ(complaint(task_options{}), "");
}

TEST(option_checks, name_the_option_of_a_pool) {
  EXPECT_TRUE(names(complaint(pool_options{.workers = 0}), "pool_options::workers"));
  EXPECT_TRUE(names(complaint(pool_options{.workers = 4097}), "pool_options::workers"));
  EXPECT_TRUE(names(complaint(pool_options{.workers = 2, .min_workers = 3}), "pool_options::min_workers"));
  EXPECT_TRUE(names(complaint(pool_options{.idle_timeout = -1ms}), "pool_options::idle_timeout"));
  EXPECT_TRUE(names(complaint(pool_options{.window = 65}), "pool_options::window"));
  EXPECT_TRUE(names(complaint(pool_options{.nice = 20}), "pool_options::nice"));
  EXPECT_TRUE(names(complaint(pool_options{.rlimits = {{1000, 1}}}), "pool_options::rlimits"));
}

TEST(option_checks, name_the_option_of_a_task) {
  EXPECT_TRUE(names(complaint(task_options{.timeout = -1ns}), "task_options::timeout"));
  EXPECT_TRUE(names(complaint(task_options{.cancel_grace = -1ms}), "task_options::cancel_grace"));
  EXPECT_TRUE(names(complaint(task_options{.attempts = 0}), "task_options::attempts"));
  EXPECT_TRUE(names(complaint(task_options{.attempts = 2}), "idempotent"));
  EXPECT_EQ(complaint(task_options{.idempotent = true, .attempts = 2}), "");
}

TEST(option_checks, keep_spans_within_what_nanoseconds_can_count) {
  EXPECT_EQ(in_nanoseconds(3ms), 3'000'000ns);
  EXPECT_GT(in_nanoseconds(std::chrono::milliseconds::max()), 0ns);
  EXPECT_GT(scheduler_options_of(pool_options{.cancel_grace = std::chrono::milliseconds::max()}).cancel_grace, 0ns);
}

TEST(option_checks, give_workers_what_was_asked_for) {
  const auto settings = worker_settings_of(pool_options{.cpu_affinity = {0}, .rlimits = {{RLIMIT_NOFILE, 64}}});
  EXPECT_EQ(settings.rlimit_count, 1U);
  EXPECT_EQ(settings.rlimits[0].resource, RLIMIT_NOFILE);
  EXPECT_EQ(settings.rlimits[0].value, 64U);
  EXPECT_EQ(settings.use_affinity, 1U);
  EXPECT_TRUE(CPU_ISSET(0, &settings.affinity));
  EXPECT_EQ(worker_settings_of(pool_options{}).use_affinity, 0U);
}

TEST(option_checks, know_the_cpu_time_that_workers_have) {
  EXPECT_EQ(cpu_limit_of(pool_options{.rlimits = {{RLIMIT_CPU, 7}}}), 7s);
  EXPECT_EQ(cpu_limit_of(pool_options{.rlimits = {{RLIMIT_CPU, RLIM_INFINITY}}}), std::nullopt);
}

}  // namespace
}  // namespace shmpool::pool
