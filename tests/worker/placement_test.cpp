// A worker does not poll on its parent's CPU, where it may run on another.
#include "worker/placement.hpp"

#include <gtest/gtest.h>

#include <sched.h>

#include <chrono>
#include <utility>

namespace shmpool::worker {
namespace {

/// Gives the thread back the CPUs that it could run on.
class placements : public ::testing::Test {
 protected:
  placements() { EXPECT_EQ(::sched_getaffinity(0, sizeof before_, &before_), 0); }
  ~placements() override { EXPECT_EQ(::sched_setaffinity(0, sizeof before_, &before_), 0); }

  static unsigned here() { return static_cast<unsigned>(::sched_getcpu()); }
  static void allow(const cpu_set_t& cpus) { ASSERT_EQ(::sched_setaffinity(0, sizeof cpus, &cpus), 0); }
  bool may_run_as_before() const {
    cpu_set_t now;
    EXPECT_EQ(::sched_getaffinity(0, sizeof now, &now), 0);
    return CPU_EQUAL(&now, &before_);
  }
  bool has_several() const { return CPU_COUNT(&before_) > 1; }
  /// Two CPUs that the thread may run on.
  std::pair<unsigned, unsigned> two() const {
    unsigned found[2] = {}, count = 0;
    for (unsigned cpu = 0; cpu != CPU_SETSIZE && count != 2; ++cpu) {
      if (CPU_ISSET(cpu, &before_)) found[count++] = cpu;
    }
    return {found[0], found[1]};
  }
  static cpu_set_t only(unsigned cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return one;
  }
  /// The thread runs on `cpu`, and may run wherever it could.
  void be_on(unsigned cpu) {
    allow(only(cpu));
    ASSERT_EQ(here(), cpu);
    allow(before_);
  }

  cpu_set_t before_{};
  placement where;
};

TEST_F(placements, leave_a_thread_where_it_is_if_the_parent_is_elsewhere) {
  if (!has_several()) GTEST_SKIP() << "one CPU";
  const auto [first, second] = two();
  allow(only(first));
  EXPECT_TRUE(where.is_apart(second));
  EXPECT_EQ(here(), first);
}

TEST_F(placements, move_a_thread_off_the_cpu_of_its_parent_and_leave_it_its_cpus) {
  if (!has_several()) GTEST_SKIP() << "one CPU";
  const unsigned parent = two().first;
  // The system may move the thread between two lines of this test, to the parent's CPU or off it.
  for (int i = 0; i != 100; ++i) {
    placement fresh;
    be_on(parent);
    const bool apart = fresh.is_apart(parent);
    const bool elsewhere = here() != parent;
    ASSERT_TRUE(may_run_as_before());
    if (apart && elsewhere) return;
  }
  FAIL() << "it was never moved";
}

TEST_F(placements, let_a_thread_sleep_that_may_run_nowhere_else) {
  const unsigned parent = two().first;
  allow(only(parent));
  EXPECT_FALSE(where.is_apart(parent));
  EXPECT_EQ(here(), parent);
}

TEST_F(placements, move_a_thread_now_and_then_only) {
  if (!has_several()) GTEST_SKIP() << "one CPU";
  const unsigned parent = two().first;
  allow(only(parent));
  EXPECT_FALSE(where.is_apart(parent)) << "that was the one attempt for a while";
  const auto begin = monotonic_clock::now();
  be_on(parent);
  const bool apart = where.is_apart(parent);
  if (monotonic_clock::now() - begin < placement::interval && here() == parent) {
    EXPECT_FALSE(apart);
  }
}

}  // namespace
}  // namespace shmpool::worker
