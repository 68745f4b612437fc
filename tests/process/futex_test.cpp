// A thread sleeps at a word until that changes or its time is over, and is woken.
#include "process/futex.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <thread>

namespace shmpool {
namespace {

using namespace std::chrono_literals;

TEST(futexes, let_nobody_sleep_at_a_word_that_has_changed) {
  const std::atomic<std::uint64_t> word{8};
  EXPECT_EQ(futex::wait(word, 7, 1h), EAGAIN);
}

TEST(futexes, end_the_sleep_when_its_time_is_over) {
  const std::atomic<std::uint64_t> word{7};
  EXPECT_EQ(futex::wait(word, 7, 0ns), ETIMEDOUT);
  const auto begin = std::chrono::steady_clock::now();
  int error = 0;
  while ((error = futex::wait(word, 7, 1ms)) == EINTR) {
  }
  EXPECT_EQ(error, ETIMEDOUT);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 1ms);
}

TEST(futexes, wake_a_thread_that_sleeps_or_is_about_to) {
  std::atomic<std::uint64_t> word{std::uint64_t{1} << 40};
  std::thread sleeper([&] {
    for (std::uint64_t seen = word; seen != (std::uint64_t{1} << 40) + 1000; seen = word) {
      const int error = futex::wait(word, seen, 1h);
      EXPECT_TRUE(error == 0 || error == EAGAIN || error == EINTR) << error;
    }
  });
  for (int i = 0; i != 1000; ++i) {
    ++word;
    EXPECT_EQ(futex::wake(word), 0);
    if (i % 2 == 0) std::this_thread::yield();
  }
  sleeper.join();
}

TEST(futexes, have_nobody_to_wake_where_nobody_sleeps) {
  const std::atomic<std::uint64_t> word{0};
  EXPECT_EQ(futex::wake(word), 0);
}

}  // namespace
}  // namespace shmpool
