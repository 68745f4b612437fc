// Promises of the error codes and of worker_lost.
#include <shmpool/detail/codec/message.hpp>
#include <shmpool/error.hpp>

#include <gtest/gtest.h>

#include <csignal>
#include <set>
#include <string>
#include <type_traits>

namespace {

using shmpool::errc;
using shmpool::worker_lost;

constexpr int last_code = static_cast<int>(errc::quarantined);

TEST(error_category, has_a_distinct_sentence_for_every_code) {
  std::set<std::string> texts;
  for (int value = 1; value <= last_code; ++value) {
    const auto text = shmpool::shmpool_category().message(value);
    EXPECT_GT(text.size(), 20u);
    EXPECT_EQ(text.find("unknown"), std::string::npos) << text;
    EXPECT_TRUE(texts.insert(text).second) << text;
  }
}

TEST(error_category, names_the_value_of_a_code_it_does_not_know) {
  EXPECT_EQ(shmpool::shmpool_category().message(0), "unknown shmpool error 0");
  EXPECT_EQ(shmpool::shmpool_category().message(last_code + 1),
            "unknown shmpool error " + std::to_string(last_code + 1));
}

TEST(error_category, makes_codes_from_enumerators) {
  const std::error_code code = errc::queue_full;
  EXPECT_EQ(&code.category(), &shmpool::shmpool_category());
  EXPECT_STREQ(code.category().name(), "shmpool");
  EXPECT_EQ(code.value(), static_cast<int>(errc::queue_full));
  EXPECT_EQ(code, errc::queue_full);
  EXPECT_NE(code, errc::array_busy);
}

TEST(error_category, answers_the_generic_questions) {
  EXPECT_EQ(make_error_code(errc::deadline_exceeded), std::errc::timed_out);
  EXPECT_EQ(make_error_code(errc::array_busy), std::errc::device_or_resource_busy);
  EXPECT_EQ(make_error_code(errc::shm_exhausted), std::errc::not_enough_memory);
  EXPECT_EQ(make_error_code(errc::shm_exhausted), std::errc::no_space_on_device);
  EXPECT_EQ(make_error_code(errc::protocol_violation), std::errc::protocol_error);
  EXPECT_EQ(make_error_code(errc::message_too_large), std::errc::message_size);
}

TEST(error_category, keeps_codes_apart_that_have_no_generic_meaning) {
  EXPECT_NE(make_error_code(errc::worker_lost), std::errc::timed_out);
  EXPECT_NE(make_error_code(errc::deadline_exceeded), std::errc::operation_canceled);
  // 1 is EPERM too: equal values of different categories are different errors.
  EXPECT_NE(make_error_code(errc::worker_lost), std::errc::operation_not_permitted);
}

TEST(worker_lost, tells_signal_and_peak_memory) {
  const worker_lost lost({.pid = 1234,
                          .signal = SIGSEGV,
                          .exit_code = 0,
                          .status_known = true,
                          .max_rss_bytes = 12u << 20,
                          .started = true});
  EXPECT_STREQ(lost.what(),
               "worker 1234 was lost while it ran the task: killed by signal 11 (Segmentation fault); peak memory 12 "
               "MiB");
  EXPECT_EQ(lost.code(), errc::worker_lost);
  EXPECT_EQ(lost.pid(), 1234);
  EXPECT_EQ(lost.signal(), SIGSEGV);
  EXPECT_EQ(lost.max_rss_bytes(), 12u << 20);
  EXPECT_TRUE(lost.status_known());
  EXPECT_TRUE(lost.started());
}

TEST(worker_lost, tells_the_exit_code_and_that_the_task_had_not_started) {
  const worker_lost lost(
      {.pid = 7, .signal = 0, .exit_code = 3, .status_known = true, .max_rss_bytes = 0, .started = false});
  EXPECT_STREQ(lost.what(), "worker 7 was lost before it started the task: it exited with code 3");
  EXPECT_EQ(lost.exit_code(), 3);
  EXPECT_FALSE(lost.started());
}

TEST(worker_lost, points_at_memory_when_the_kernel_may_have_killed) {
  const worker_lost lost({.pid = 7, .signal = SIGKILL, .status_known = true, .max_rss_bytes = 2048});
  EXPECT_NE(std::string(lost.what()).find("memory runs out"), std::string::npos);
  EXPECT_NE(std::string(lost.what()).find("peak memory 2 KiB"), std::string::npos);
}

// One that the pool had killed was said to have run out of memory, perhaps.
TEST(worker_lost, says_that_the_pool_did_it_and_why) {
  const worker_lost lost({.pid = 7, .signal = SIGKILL, .status_known = true, .killed_because = "it had begun nothing"});
  EXPECT_STREQ(lost.what(), "worker 7 was lost while it ran the task: killed by the pool: it had begun nothing");
  EXPECT_TRUE(lost.killed_by_pool());
  const worker_lost before(
      {.pid = 7, .signal = SIGSEGV, .status_known = true, .killed_because = "it had begun nothing"});
  EXPECT_EQ(std::string(before.what()).find("pool"), std::string::npos) << "it had died of something else by then";
  EXPECT_TRUE(std::string(worker_lost({.pid = 7, .killed_because = "its server died"}).what())
                  .ends_with("killed by the pool: its server died"));
}

TEST(worker_lost, names_the_limit_of_cpu_time) {
  using namespace std::chrono_literals;
  const worker_lost lost({.pid = 7, .signal = SIGKILL, .status_known = true, .cpu_time = 1020ms, .cpu_limit = 1s});
  const std::string text = lost.what();
  EXPECT_NE(text.find("it had used 1.0 s of CPU time, and its RLIMIT_CPU is 1 s"), std::string::npos) << text;
  EXPECT_EQ(text.find("memory"), std::string::npos) << text;
}

TEST(worker_lost, admits_that_nobody_knows) {
  const worker_lost lost({.pid = 7});
  EXPECT_STREQ(lost.what(), "worker 7 was lost while it ran the task: how it ended is unknown");
}

TEST(worker_lost, names_a_signal_without_a_description_by_its_number) {
  const worker_lost lost({.pid = 7, .signal = SIGRTMIN + 3, .status_known = true});
  EXPECT_NE(std::string(lost.what()).find("killed by signal " + std::to_string(SIGRTMIN + 3)), std::string::npos);
}

TEST(worker_lost, is_copied_without_throwing) {
  static_assert(std::is_nothrow_copy_constructible_v<worker_lost>);
  static_assert(std::is_nothrow_copy_assignable_v<worker_lost>);
  const worker_lost lost({.pid = 7});
  const worker_lost copy = lost;
  EXPECT_STREQ(copy.what(), lost.what());
}

TEST(protocol_violation, carries_its_text) {
  try {
    shmpool::detail::throw_protocol_violation("frame without an end");
    FAIL();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), errc::protocol_violation);
    EXPECT_TRUE(std::string(error.what()).starts_with("frame without an end"));
  }
}

}  // namespace
