// When a worker has outgrown its limit of private memory.
#include "worker/memory_limit.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

namespace shmpool::worker {
namespace {

constexpr std::uint64_t second_ns = 1'000'000'000;
constexpr std::uint64_t unlimited = std::uint64_t{1} << 50;

TEST(memory_limit, is_not_exceeded_by_a_process_below_it) {
  memory_limit limit(unlimited);
  EXPECT_EQ(limit.exceeded_by(second_ns, second_ns), 0U);
}

TEST(memory_limit, is_told_once) {
  memory_limit limit(1);
  EXPECT_GT(limit.exceeded_by(second_ns, second_ns), 1U);
  EXPECT_EQ(limit.exceeded_by(2 * second_ns, second_ns), 0U);
}

TEST(memory_limit, counts_the_memory_that_is_touched) {
  constexpr std::size_t bytes = std::size_t{64} << 20;
  const std::uint64_t before = memory_limit(1).exceeded_by(second_ns, second_ns);
  const std::unique_ptr<std::byte[]> memory(new std::byte[bytes]);
  std::memset(memory.get(), 1, bytes);
  EXPECT_GE(memory_limit(1).exceeded_by(second_ns, second_ns), before + bytes / 2);
}

// A look is a system call, which short tasks should not pay for each.
TEST(memory_limit, is_looked_at_after_short_tasks_now_and_then) {
  constexpr std::size_t bytes = std::size_t{64} << 20;
  const std::uint64_t before = memory_limit(1).exceeded_by(second_ns, second_ns);
  memory_limit limit(before + bytes / 2);
  EXPECT_EQ(limit.exceeded_by(second_ns, 0), 0U);
  const std::unique_ptr<std::byte[]> memory(new std::byte[bytes]);
  std::memset(memory.get(), 1, bytes);
  EXPECT_EQ(limit.exceeded_by(second_ns + 1, 0), 0U) << "it has just been looked at";
  EXPECT_GT(limit.exceeded_by(2 * second_ns, 0), before + bytes / 2);
}

}  // namespace
}  // namespace shmpool::worker
