#include <gtest/gtest.h>
#include <shmpool/detail/segment.hpp>
#include <shmpool/shm_handle.hpp>

#include <algorithm>
#include <cstring>

namespace shmpool {
namespace {

TEST(heap_segment, is_private_memory_of_the_asked_size_and_alignment) {
  for (const std::size_t alignment : {1U, 64U, 128U, 4096U}) {
    const shm_handle handle{detail::make_heap_segment(1000, alignment)};
    EXPECT_EQ(handle.size(), 1000U);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(handle.data()) % std::max<std::size_t>(alignment, 64), 0U);
    EXPECT_FALSE(handle.is_shared());
    EXPECT_EQ(handle.name(), "");
    EXPECT_EQ(handle.get()->id(), 0U);
    std::memset(handle.data(), 1, handle.size());
  }
}

TEST(heap_segment, lives_as_long_as_its_last_handle) {
  shm_handle first{detail::make_heap_segment(8, 8)};
  EXPECT_EQ(first.use_count(), 1);
  shm_handle second = first;
  EXPECT_EQ(first.use_count(), 2);
  first.reset();
  *second.data() = std::byte{3};
  EXPECT_EQ(*second.data(), std::byte{3});
}

TEST(heap_segment, may_be_empty) {
  const shm_handle handle{detail::make_heap_segment(0, 1)};
  EXPECT_NE(handle.data(), nullptr);
  EXPECT_EQ(handle.size(), 0U);
}

}  // namespace
}  // namespace shmpool
