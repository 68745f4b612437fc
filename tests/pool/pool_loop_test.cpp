// A pool's one timer, with both completion queues. That a descriptor turns readable is waited for with a watchdog; that
// it does not is asked of times that are an hour away.
#include "pool/pool_loop.hpp"

#include <gtest/gtest.h>

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <system_error>

namespace shmpool::pool {
namespace {

using namespace std::chrono_literals;

class pool_loops : public ::testing::TestWithParam<backend> {
 protected:
  void SetUp() override {
    try {
      made_.emplace(GetParam());
    } catch (const std::system_error& error) {
      GTEST_SKIP() << error.what();
    }
  }

  pool_loop& loop() { return *made_; }

  /// Waits for the descriptor.
  bool is_readable(int timeout_ms) {
    for (;;) {
      pollfd watched{loop().descriptor(), POLLIN, 0};
      const int count = ::poll(&watched, 1, timeout_ms);
      if (count >= 0 || errno != EINTR) return count > 0;
    }
  }
  static constexpr int watchdog_ms = 20'000;

  /// Hands over what was started, and takes what was only there to be noticed.
  void submit() {
    loop().submit(monotonic_clock::now());
    EXPECT_FALSE(loop().is_refused());
  }
  /// Waits until the wait for the timer has ended.
  bool reap_timer() {
    for (;;) {
      if (const loop::operation* const op = loop().queue().reap()) return loop().is_timer(*op);
      if (!is_readable(watchdog_ms)) return false;
    }
  }
  /// Nothing has ended.
  bool is_quiet() { return loop().queue().reap() == nullptr && !is_readable(0); }

  static monotonic_clock::time_point soon() { return monotonic_clock::now() + 1ms; }
  static monotonic_clock::time_point late() { return monotonic_clock::now() + 1h; }

 private:
  std::optional<pool_loop> made_;
};

TEST_P(pool_loops, wakes_at_the_time_that_it_was_told) {
  const auto due = soon();
  EXPECT_TRUE(loop().wake_at(due)) << "the kernel has to be told of the wait";
  submit();
  ASSERT_TRUE(is_readable(watchdog_ms));
  ASSERT_TRUE(reap_timer());
  EXPECT_GE(monotonic_clock::now(), due);
}

TEST_P(pool_loops, does_not_wake_before_its_time) {
  loop().wake_at(late());
  submit();
  EXPECT_TRUE(is_quiet());
}

TEST_P(pool_loops, begins_one_wait_for_any_number_of_times) {
  EXPECT_TRUE(loop().wake_at(late()));
  EXPECT_FALSE(loop().wake_at(late()));
  EXPECT_FALSE(loop().wake_at(soon())) << "the wait for it is under way";
}

TEST_P(pool_loops, waits_for_nothing_if_nothing_is_due) {
  EXPECT_FALSE(loop().wake_at(pool_loop::time_point::max()));
  submit();
  EXPECT_TRUE(is_quiet());
}

TEST_P(pool_loops, wakes_at_the_earlier_of_two_times) {
  loop().wake_at(late());
  submit();
  loop().wake_at(soon());
  submit();
  EXPECT_TRUE(reap_timer());
}

TEST_P(pool_loops, is_not_put_off_by_a_later_time) {
  loop().wake_at(soon());
  submit();
  loop().wake_at(late());
  loop().wake_at(pool_loop::time_point::max());
  submit();
  EXPECT_TRUE(reap_timer());
}

TEST_P(pool_loops, wakes_again_after_it_has_expired) {
  loop().wake_at(soon());
  submit();
  ASSERT_TRUE(reap_timer());
  loop().expired();
  EXPECT_TRUE(loop().wake_at(soon()));
  submit();
  EXPECT_TRUE(reap_timer());
}

TEST_P(pool_loops, waits_for_a_later_time_after_it_has_expired) {
  loop().wake_at(soon());
  submit();
  ASSERT_TRUE(reap_timer());
  loop().expired();
  loop().wake_at(late());
  submit();
  EXPECT_TRUE(is_quiet());
}

TEST_P(pool_loops, wakes_at_once_when_that_is_wanted) {
  loop().wake_now();
  EXPECT_TRUE(loop().wake_at(late()));
  submit();
  EXPECT_TRUE(reap_timer());
}

TEST_P(pool_loops, wakes_again_and_again_until_what_was_wanted_is_done) {
  loop().wake_now();
  for (int i = 0; i != 3; ++i) {
    loop().wake_at(late());
    submit();
    ASSERT_TRUE(reap_timer());
    loop().expired();
  }
  loop().heard();
  loop().wake_at(late());
  submit();
  EXPECT_TRUE(is_quiet());
}

TEST_P(pool_loops, wakes_when_the_bell_is_rung_until_that_is_heard) {
  if (loop().bell().to_ring() < 0) GTEST_SKIP() << "this kernel has no pipes of packets";
  EXPECT_FALSE(is_readable(0));
  const std::uint32_t number = 7;
  ASSERT_EQ(::write(loop().bell().to_ring(), &number, sizeof number), static_cast<ssize_t>(sizeof number));
  EXPECT_TRUE(is_readable(watchdog_ms));
  EXPECT_EQ(loop().bell().next(), std::optional<std::uint32_t>(7));
  EXPECT_FALSE(is_readable(0));
}

TEST_P(pool_loops, is_due_once) {
  const auto due = late();
  loop().wake_at(due);
  EXPECT_FALSE(loop().is_due(due - 1ns));
  EXPECT_TRUE(loop().is_due(due));
  EXPECT_FALSE(loop().is_due(due + 1h));
}

TEST_P(pool_loops, is_not_due_when_its_timer_has_expired_and_was_acted_on) {
  const auto due = soon();
  loop().wake_at(due);
  submit();
  ASSERT_TRUE(reap_timer());
  loop().expired();
  EXPECT_FALSE(loop().is_due(due + 1h));
}

TEST_P(pool_loops, has_nothing_to_try_again_if_nothing_was_refused) {
  loop().wake_at(late());
  submit();
  EXPECT_EQ(loop().retry_after(late()), 0ms);
  EXPECT_EQ(loop().given_up(late()), std::nullopt);
  EXPECT_FALSE(loop().is_lost());
}

TEST_P(pool_loops, has_one_timer) {
  const loop::operation other;
  EXPECT_FALSE(loop().is_timer(other));
}

std::string name_of(const ::testing::TestParamInfo<backend>& info) {
  return info.param == backend::io_uring ? "io_uring" : "epoll";
}

INSTANTIATE_TEST_SUITE_P(both, pool_loops, ::testing::Values(backend::io_uring, backend::epoll), name_of);

}  // namespace
}  // namespace shmpool::pool
