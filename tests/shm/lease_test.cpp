// Segments that a worker makes: what the store knows of them before, after, and when the worker does less than it says.
#include "shm_fixture.hpp"

#include <shmpool/error.hpp>

#include <sys/stat.h>

#include <cstring>

namespace shmpool::shm {
namespace {

class lease_test : public shm_fixture {
 protected:
  /// What a worker does with a fresh lease.
  static void create_as_worker(file_segment& segment, std::size_t bytes) {
    std::error_code error;
    const unique_fd fd = create_named(segment.name(), segment.capacity(), error);
    ASSERT_FALSE(error) << error.message();
    const mapping where = mapping::map(fd.get(), segment.capacity(), true, error);
    ASSERT_FALSE(error) << error.message();
    ASSERT_FALSE(reserve(fd.get(), where, 0, bytes));
    std::memset(where.data(), 5, bytes);
    segment.mark_created();
  }
};

TEST_F(lease_test, a_fresh_lease_is_only_a_name_and_a_place_in_the_budget) {
  const auto pool = open({.max_bytes = 1 * MiB});
  const shm_handle lease = pool->lease(600 * KiB, 0);
  const auto& segment = segment_of(lease);
  EXPECT_FALSE(segment.created());
  EXPECT_FALSE(segment.mapped());
  EXPECT_EQ(lease.data(), nullptr);
  EXPECT_EQ(segment.reserved(), 600 * KiB);
  EXPECT_GE(segment.capacity(), segment.reserved());
  EXPECT_EQ(segment.name(), segment_name(pool->pool_id(), segment.id()));
  EXPECT_FALSE(exists(segment.name()));
  EXPECT_EQ(pool->stats().live_bytes, 600 * KiB);
  EXPECT_THROW(pool->lease(600 * KiB, 0), std::system_error);
}

TEST_F(lease_test, an_unused_lease_gives_its_budget_back_and_is_not_cached) {
  const auto pool = open();
  pool->lease(600 * KiB, 0);
  EXPECT_EQ(pool->stats().live_segments, 0U);
  EXPECT_EQ(pool->stats().live_bytes, 0U);
  EXPECT_EQ(pool->stats().cached_segments, 0U);
}

TEST_F(lease_test, a_file_that_its_worker_never_reported_goes_with_the_lease) {
  const auto pool = open();
  shm_handle lease = pool->lease(600 * KiB, 0);
  const std::string name = lease.name();
  std::error_code error;
  create_named(name, 4096, error);
  ASSERT_TRUE(exists(name));
  lease.reset();
  EXPECT_FALSE(exists(name));
}

TEST_F(lease_test, what_the_worker_made_can_be_mapped) {
  const auto pool = open();
  const shm_handle lease = pool->lease(3 * MiB, 0);
  auto& segment = segment_of(lease);
  create_as_worker(segment, segment.reserved());
  ASSERT_FALSE(segment.map(3 * MiB));
  EXPECT_EQ(lease.data()[3 * MiB - 1], std::byte{5});
  EXPECT_GE(lease.size(), 3 * MiB);
}

TEST_F(lease_test, a_missing_file_is_an_error) {
  const auto pool = open();
  const shm_handle lease = pool->lease(64 * KiB, 0);
  segment_of(lease).mark_created();
  EXPECT_EQ(segment_of(lease).map(64 * KiB).code, std::errc::no_such_file_or_directory);
  EXPECT_FALSE(segment_of(lease).mapped());
}

TEST_F(lease_test, a_truncated_file_is_refused) {
  const auto pool = open();
  const shm_handle lease = pool->lease(64 * KiB, 0);
  auto& segment = segment_of(lease);
  create_as_worker(segment, segment.reserved());
  ASSERT_EQ(::truncate(path_of(segment.name()).c_str(), 32 * 1024), 0);
  EXPECT_EQ(segment.map(64 * KiB).code, errc::protocol_violation);
  EXPECT_FALSE(segment.mapped());
}

TEST_F(lease_test, more_than_was_granted_is_refused) {
  const auto pool = open();
  const shm_handle lease = pool->lease(64 * KiB, 0);
  auto& segment = segment_of(lease);
  create_as_worker(segment, segment.reserved());
  EXPECT_EQ(segment.map(segment.capacity() + 1).code, errc::protocol_violation);
}

TEST_F(lease_test, pages_that_the_worker_did_not_make_are_made_before_they_are_touched) {
  const auto pool = open();
  const shm_handle lease = pool->lease(3 * MiB, 0);
  auto& segment = segment_of(lease);
  create_as_worker(segment, 64 * KiB);
  ASSERT_FALSE(segment.map(3 * MiB));
  struct stat info {};
  ASSERT_EQ(::stat(path_of(segment.name()).c_str(), &info), 0);
  EXPECT_GE(static_cast<std::size_t>(info.st_blocks) * 512, 3 * MiB);
  std::memset(lease.data(), 1, 3 * MiB);
}

TEST_F(lease_test, a_segment_that_was_never_mapped_here_is_cached_and_can_be_allocated_whole) {
  const auto pool = open();
  shm_handle lease = pool->lease(600 * KiB, 3);
  const auto id = lease.get()->id();
  create_as_worker(segment_of(lease), 4 * KiB);  // less than was granted
  lease.reset();
  EXPECT_EQ(pool->stats().cached_segments, 1U);
  const shm_handle handle = pool->allocate(600 * KiB, 8);
  ASSERT_EQ(handle.get()->id(), id);
  struct stat info {};
  ASSERT_EQ(::stat(path_of(handle.name()).c_str(), &info), 0);
  EXPECT_GE(static_cast<std::size_t>(info.st_blocks) * 512, 600 * KiB);
  std::memset(handle.data(), 1, 600 * KiB);
}

TEST_F(lease_test, prefers_what_the_worker_has_mapped) {
  const auto pool = open();
  shm_handle theirs = pool->allocate(64 * KiB, 8);
  shm_handle foreign = pool->allocate(64 * KiB, 8);
  segment_of(theirs).note_mapped_by(5);
  segment_of(foreign).note_mapped_by(6);
  const auto id = theirs.get()->id();
  theirs.reset();
  foreign.reset();  // freed last, so it would be first
  const shm_handle lease = pool->lease(64 * KiB, 5);
  EXPECT_EQ(lease.get()->id(), id);
  EXPECT_TRUE(segment_of(lease).created());
}

TEST_F(lease_test, in_advance_only_from_the_cache) {
  const auto pool = open();
  EXPECT_FALSE(pool->lease_cached(64 * KiB, 0));
  shm_handle handle = pool->allocate(64 * KiB, 8);
  const auto id = handle.get()->id();
  EXPECT_FALSE(pool->lease_cached(64 * KiB, 0)) << "it is in use";
  handle.reset();
  EXPECT_FALSE(pool->lease_cached(32 * KiB, 0)) << "another class";
  handle = pool->lease_cached(64 * KiB, 0);
  ASSERT_TRUE(handle);
  EXPECT_EQ(handle.get()->id(), id);
  EXPECT_EQ(pool->stats().live_segments, 1U);
}

TEST_F(lease_test, in_advance_only_with_all_pages) {
  const auto pool = open();
  const std::size_t capacity = size_class(900 * KiB);
  pool->allocate(capacity - 8 * page_bytes, 8);
  EXPECT_FALSE(pool->lease_cached(capacity, 0));
  EXPECT_TRUE(pool->lease_cached(capacity - 8 * page_bytes, 0));
}

TEST_F(lease_test, a_memfd_comes_with_its_pages) {
  const auto pool = open({.backing = backing::memfd});
  const shm_handle lease = pool->lease(3 * MiB, 0);
  const auto& segment = segment_of(lease);
  EXPECT_TRUE(segment.created());
  EXPECT_TRUE(segment.mapped());
  struct stat info {};
  ASSERT_EQ(::fstat(segment.descriptor(), &info), 0);
  EXPECT_EQ(static_cast<std::size_t>(info.st_blocks) * 512, segment.reserved());
}

TEST_F(lease_test, comes_with_its_file_where_the_worker_cannot_make_it_and_the_pool_insists_on_names) {
  const auto pool = open({.backing = backing::posix});
  const shm_handle lease = pool->lease(64 * KiB, 0, true);
  EXPECT_TRUE(segment_of(lease).created());
  EXPECT_TRUE(exists(lease.name()));
}

TEST_F(lease_test, avoids_names_when_asked_to) {
  const auto pool = open();
  const shm_handle lease = pool->lease(64 * KiB, 0, true);
  EXPECT_EQ(lease.name(), "");
  EXPECT_GE(segment_of(lease).descriptor(), 0);
  EXPECT_TRUE(pool->stats().memfd_used);
}

TEST_F(lease_test, workers_are_remembered_and_forgotten) {
  const auto pool = open();
  const shm_handle handle = pool->allocate(64 * KiB, 8);
  auto& segment = segment_of(handle);
  segment.note_mapped_by(70);
  EXPECT_TRUE(segment.maybe_mapped_by(70));
  EXPECT_FALSE(segment.maybe_mapped_by(5));
  segment.forget_worker(70);
  EXPECT_FALSE(segment.maybe_mapped_by(70));
}

}  // namespace
}  // namespace shmpool::shm
