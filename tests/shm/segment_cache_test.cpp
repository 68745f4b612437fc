// Warm segments, seen through the store: what is kept, in which order it is given out, and when it goes.
#include "shm/segment_cache.hpp"

#include "shm_fixture.hpp"

#include <sys/resource.h>
#include <sys/stat.h>

#include <cstring>

namespace shmpool::shm {
namespace {

class cache_test : public shm_fixture {};

long faults() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_minflt;
}

void touch(const shm_handle& handle, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += page_bytes)
    static_cast<volatile std::byte*>(handle.data())[at] = std::byte{1};
}

TEST_F(cache_test, a_released_segment_is_given_out_again_warm) {
  const auto pool = open();
  shm_handle handle = pool->allocate(1 * MiB, 64);
  touch(handle, 1 * MiB);
  const std::byte* const where = handle.data();
  const std::uint64_t id = handle.get()->id();
  handle.reset();
  EXPECT_EQ(pool->stats().cached_segments, 1U);
  handle = pool->allocate(1 * MiB - 100, 64);
  EXPECT_EQ(handle.data(), where);
  EXPECT_EQ(handle.get()->id(), id);
  const long before = faults();
  touch(handle, 1 * MiB - 100);
  EXPECT_LE(faults() - before, 4) << "of 256 pages";
}

TEST_F(cache_test, the_last_freed_of_a_size_class_is_given_out_first) {
  const auto pool = open();
  shm_handle first = pool->allocate(64 * KiB, 8);
  shm_handle second = pool->allocate(64 * KiB, 8);
  shm_handle other = pool->allocate(128 * KiB, 8);
  const auto first_id = first.get()->id();
  const auto second_id = second.get()->id();
  second.reset();
  first.reset();
  other.reset();
  first = pool->allocate(64 * KiB, 8);
  second = pool->allocate(64 * KiB, 8);
  EXPECT_EQ(first.get()->id(), first_id);
  EXPECT_EQ(second.get()->id(), second_id);
}

TEST_F(cache_test, a_warm_segment_grows_within_its_class) {
  const auto pool = open();
  for (const std::size_t capacity : {size_class(900 * KiB), size_class(40 * MiB)}) {
    const std::size_t less = capacity - capacity / 20;
    ASSERT_EQ(size_class(less), capacity);
    shm_handle handle = pool->allocate(less, 8);
    const std::byte* const where = handle.data();
    const std::size_t before = segment_of(handle).reserved();
    ASSERT_LT(before, capacity);
    handle.reset();
    handle = pool->allocate(capacity, 8);
    EXPECT_EQ(handle.data(), where);
    EXPECT_EQ(handle.size(), capacity);
    EXPECT_EQ(pool->stats().live_bytes, capacity);
    struct stat info {};
    ASSERT_EQ(::stat(path_of(handle.name()).c_str(), &info), 0);
    EXPECT_GE(static_cast<std::size_t>(info.st_blocks) * 512, capacity);
  }
}

TEST_F(cache_test, a_warm_segment_whose_file_is_gone_is_not_used_for_more) {
  const auto pool = open();
  const std::size_t capacity = size_class(900 * KiB);
  shm_handle handle = pool->allocate(capacity - 8 * page_bytes, 8);
  const auto id = handle.get()->id();
  unlink_named(handle.name());
  handle.reset();
  handle = pool->allocate(capacity, 8);
  EXPECT_NE(handle.get()->id(), id);
  std::memset(handle.data(), 1, capacity);
}

TEST_F(cache_test, the_cache_has_a_bound_and_drops_the_oldest_first) {
  const auto pool = open({.cache_bytes = 256 * KiB});
  std::vector<shm_handle> handles;
  std::vector<std::string> names;
  for (int i = 0; i < 4; ++i) {
    handles.push_back(pool->allocate(96 * KiB, 8));
    names.push_back(handles.back().name());
  }
  for (auto& handle : handles) handle.reset();
  EXPECT_EQ(pool->stats().cached_segments, 2U);
  EXPECT_EQ(pool->stats().cached_bytes, 192 * KiB);
  EXPECT_FALSE(exists(names[0]));
  EXPECT_FALSE(exists(names[1]));
  EXPECT_TRUE(exists(names[2]));
  EXPECT_TRUE(exists(names[3]));
}

TEST_F(cache_test, what_is_larger_than_the_cache_is_freed_at_once) {
  const auto pool = open({.cache_bytes = 256 * KiB});
  shm_handle small = pool->allocate(64 * KiB, 8);
  shm_handle large = pool->allocate(512 * KiB, 8);
  const std::string name = large.name();
  small.reset();
  large.reset();
  EXPECT_FALSE(exists(name));
  EXPECT_EQ(pool->stats().cached_segments, 1U) << "the small one stays";
}

TEST_F(cache_test, without_a_cache_everything_is_freed_at_once) {
  const auto pool = open_without_cache();
  shm_handle handle = pool->allocate(64 * KiB, 8);
  const std::string name = handle.name();
  handle.reset();
  EXPECT_FALSE(exists(name));
  EXPECT_EQ(pool->stats().live_bytes, 0U);
}

TEST_F(cache_test, clear_frees_what_nobody_holds_and_counts_the_rest) {
  const auto pool = open();
  const auto other = open();
  const shm_handle held = pool->allocate(64 * KiB, 8);
  const shm_handle foreign = other->allocate(64 * KiB, 8);
  other->allocate(64 * KiB, 8);
  std::vector<shm_handle> freed;
  for (int i = 0; i < 3; ++i) freed.push_back(pool->allocate(64 * KiB, 8));
  freed.clear();
  const clear_result result = pool->clear();
  EXPECT_EQ(result.freed, 3U);
  EXPECT_EQ(result.still_held, 1U);
  EXPECT_EQ(names_of(pool->pool_id()).size(), 2U) << "the held one and the lock";
  EXPECT_EQ(names_of(other->pool_id()).size(), 3U) << "another pool's are not touched";
  EXPECT_EQ(pool->clear().freed, 0U);
}

TEST_F(cache_test, trim_frees_what_was_idle_for_too_long) {
  const auto pool = open({.cache_idle = std::chrono::seconds{10}});
  pool->allocate(64 * KiB, 8);
  const auto now = std::chrono::steady_clock::now();
  pool->trim(now + std::chrono::seconds{9});
  EXPECT_EQ(pool->stats().cached_segments, 1U);
  pool->trim(now + std::chrono::seconds{11});
  EXPECT_EQ(pool->stats().cached_segments, 0U);
  pool->allocate(64 * KiB, 8);
  pool->trim(std::chrono::steady_clock::now() + std::chrono::seconds{11});
  EXPECT_EQ(pool->stats().cached_segments, 0U) << "also what came after";
}

TEST_F(cache_test, an_endless_idle_time_is_no_overflow) {
  const auto pool = open({.cache_idle = std::chrono::milliseconds::max()});
  pool->allocate(64 * KiB, 8);
  pool->trim(std::chrono::steady_clock::now() + std::chrono::hours{1000});
  EXPECT_EQ(pool->stats().cached_segments, 1U);
}

}  // namespace
}  // namespace shmpool::shm
