// Work that may ask for itself: it is done by one at a time, as often as it was asked for meanwhile, whatever it
// throws.
#include <shmpool/detail/asio/one_at_a_time.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>

namespace shmpool {
namespace {

using detail::one_at_a_time;

TEST(one_at_a_time, does_the_work_before_it_returns) {
  one_at_a_time work;
  int done = 0;
  work.run([&] { ++done; });
  EXPECT_EQ(done, 1);
  work.run([&] { ++done; });
  EXPECT_EQ(done, 2);
}

TEST(one_at_a_time, does_work_that_asks_for_itself_once_more_and_not_inside) {
  one_at_a_time work;
  int done = 0;
  bool inside = false;
  const auto again = [&] { ADD_FAILURE() << "it is for the one who is at it"; };
  work.run([&] {
    EXPECT_FALSE(inside);
    inside = true;
    if (++done == 1) {
      work.run(again);
      work.run(again);
    }
    inside = false;
  });
  EXPECT_EQ(done, 2) << "it does all there is to do, however often it was asked for";
}

TEST(one_at_a_time, throws_when_all_is_done_that_was_asked_for) {
  one_at_a_time work;
  int done = 0;
  const auto fail_at_first = [&] {
    if (++done != 1) return;
    work.run([] {});
    throw std::runtime_error("the first");
  };
  EXPECT_THROW(work.run(fail_at_first), std::runtime_error);
  EXPECT_EQ(done, 2);
}

TEST(one_at_a_time, throws_what_was_thrown_last) {
  one_at_a_time work;
  int done = 0;
  try {
    work.run([&] {
      if (++done == 1) work.run([] {});
      throw std::runtime_error(std::to_string(done));
    });
    ADD_FAILURE() << "nothing was thrown";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "2");
  }
}

TEST(one_at_a_time, can_be_asked_again_after_it_has_thrown) {
  one_at_a_time work;
  EXPECT_THROW(work.run([] { throw std::runtime_error("once"); }), std::runtime_error);
  int done = 0;
  work.run([&] { ++done; });
  EXPECT_EQ(done, 1);
}

TEST(one_at_a_time, loses_nothing_that_two_threads_ask_for_and_lets_one_in) {
  constexpr int count = 20'000;
  one_at_a_time work;
  std::atomic<int> asked{0}, inside{0}, seen{0}, overlaps{0};
  const auto ask = [&] {
    for (int i = 0; i != count; ++i) {
      ++asked;
      work.run([&] {
        if (++inside != 1) ++overlaps;
        seen = asked.load();
        --inside;
      });
    }
  };
  std::thread other(ask);
  ask();
  other.join();
  EXPECT_EQ(overlaps, 0);
  EXPECT_EQ(seen, 2 * count) << "the last who asked was not heard";
}

}  // namespace
}  // namespace shmpool
