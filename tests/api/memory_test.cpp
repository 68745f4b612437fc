// What a pool takes of the application's memory: for a task that waits, and after many that have ended.
#include "pool_fixture.hpp"

#include <malloc.h>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <limits>
#include <utility>

namespace {

using namespace shmpool::testing;

void nothing() {
}

// Of the heap; nothing where a sanitizer has an allocator of its own.
std::size_t bytes_in_use() {
  const auto heap = ::mallinfo2();
  return heap.uordblks + heap.hblkhd;
}

class memory : public ::testing::Test {
 protected:
  void SetUp() override {
    if (bytes_in_use() == 0) GTEST_SKIP() << "the allocator does not say what is in use";
  }

  // Submits so many at once and returns what the heap grew by; none has ended by then.
  std::size_t queue(std::size_t tasks) {
    const std::size_t before = bytes_in_use();
    for (std::size_t i = 0; i != tasks; ++i) {
      pool_.submit(nothing, [this](const std::exception_ptr& error) { ended_ += error ? 0U : 1U; });
    }
    return bytes_in_use() - before;
  }
  // Returns how many tasks have succeeded since the last call.
  std::size_t run_all() {
    io_.restart();
    io_.run();
    return std::exchange(ended_, 0);
  }

 private:
  watchdog guard_;
  asio::io_context io_;
  shmpool::process_pool pool_{io_, options()};
  std::size_t ended_ = 0;
};

TEST_F(memory, of_a_queued_empty_task_is_less_than_a_kibibyte) {
  constexpr std::size_t tasks = 20'000;
  EXPECT_LT(queue(tasks), tasks * 1024);
  EXPECT_EQ(run_all(), tasks);
}

TEST_F(memory, does_not_grow_with_the_tasks_that_have_ended) {
  constexpr std::size_t at_once = 1'000;
  const auto repeat = [&](int times) {
    for (int i = 0; i != times; ++i) {
      queue(at_once);
      EXPECT_EQ(run_all(), at_once);
    }
    return bytes_in_use();
  };
  // A buffer that is once needed larger than before stays so. What tasks leave behind they leave each time.
  std::size_t least_growth = std::numeric_limits<std::size_t>::max();
  std::size_t before = repeat(10);
  for (int i = 0; i != 3; ++i) {
    const std::size_t after = repeat(50);
    least_growth = std::min(least_growth, after - std::min(before, after));
    before = after;
  }
  EXPECT_LE(least_growth, 4096u);
}

}  // namespace
