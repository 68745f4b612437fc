#include "shm/store.hpp"

#include "shm_fixture.hpp"

#include <shmpool/error.hpp>

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>

namespace shmpool::shm {
namespace {

using ::testing::HasSubstr;

class store_test : public shm_fixture {};

/// The text of the errc that `call` must throw.
template <class Call>
std::string text_of(errc expected, Call call) {
  try {
    call();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), make_error_code(expected));
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

TEST_F(store_test, gives_mapped_memory_under_a_private_name) {
  const auto pool = open();
  const shm_handle handle = pool->allocate(100'000, 64);
  ASSERT_TRUE(handle.is_shared());
  EXPECT_GE(handle.size(), 100'000U);
  EXPECT_EQ(handle.name(), segment_name(pool->pool_id(), handle.get()->id()));
  struct stat info {};
  ASSERT_EQ(::lstat(path_of(handle.name()).c_str(), &info), 0);
  EXPECT_TRUE(S_ISREG(info.st_mode));
  EXPECT_EQ(info.st_mode & 07777U, 0600U);
  EXPECT_EQ(info.st_uid, ::geteuid());
  EXPECT_EQ(static_cast<std::size_t>(info.st_size), segment_of(handle).capacity());
  EXPECT_GE(static_cast<std::size_t>(info.st_blocks) * 512, handle.size());
  std::memset(handle.data(), 1, handle.size());
}

TEST_F(store_test, fresh_memory_reads_zero) {
  const auto pool = open();
  const shm_handle handle = pool->allocate(3 * MiB, 64);
  for (std::size_t at = 0; at < 3 * MiB; ++at) ASSERT_EQ(handle.data()[at], std::byte{0});
}

TEST_F(store_test, reserves_no_more_than_is_needed) {
  const auto pool = open();
  const shm_handle handle = pool->allocate(160'000'000, 64);
  EXPECT_LE(pool->stats().live_bytes, 160'000'000U + 2 * MiB);
}

TEST_F(store_test, ids_are_unique_over_all_pools_of_the_process) {
  const auto first = open();
  const auto second = open();
  EXPECT_NE(first->pool_id(), second->pool_id());
  const shm_handle a = first->allocate(1, 1);
  const shm_handle b = second->allocate(1, 1);
  EXPECT_NE(a.get()->id(), 0U);
  EXPECT_NE(a.get()->id(), b.get()->id());
}

TEST_F(store_test, fresh_memory_is_in_the_page_tables) {
  const auto pool = open();
  for (const std::size_t size : {100 * KiB, 1 * MiB, 7 * MiB}) {
    const shm_handle handle = pool->allocate(size, 64);
    EXPECT_EQ(pages_in_place(handle.data(), size), size / page_bytes);
  }
}

TEST_F(store_test, a_request_above_the_budget_is_refused_and_the_pool_works_on) {
  const auto pool = open({.max_bytes = 1 * MiB});
  shm_handle held = pool->allocate(768 * KiB, 8);
  const std::string text = text_of(errc::shm_exhausted, [&] { pool->allocate(300 * KiB, 8); });
  EXPECT_THAT(text, HasSubstr("307200 bytes asked, 262144 bytes left of pool_options::max_shm_bytes = 1048576"));
  EXPECT_TRUE(pool->allocate(256 * KiB, 8));
  held.reset();
  EXPECT_TRUE(pool->allocate(1 * MiB, 8));
  EXPECT_EQ(pool->stats().live_bytes, 0U);
  EXPECT_LE(pool->stats().peak_bytes, 1 * MiB);
}

TEST_F(store_test, the_budget_takes_from_the_cache_before_it_refuses) {
  const auto pool = open({.max_bytes = 1 * MiB});
  shm_handle oldest = pool->allocate(256 * KiB, 8);
  shm_handle newest = pool->allocate(192 * KiB, 8);
  const std::string oldest_name = oldest.name();
  const std::string newest_name = newest.name();
  oldest.reset();
  newest.reset();
  const shm_handle large = pool->allocate(768 * KiB, 8);
  EXPECT_FALSE(exists(oldest_name));
  EXPECT_TRUE(exists(newest_name));
  EXPECT_EQ(pool->stats().cached_segments, 1U);
}

TEST_F(store_test, the_budget_counts_growth_of_warm_segments) {
  const std::size_t capacity = size_class(900 * KiB);
  const auto pool = open({.max_bytes = capacity});
  pool->allocate(capacity - 8 * page_bytes, 8);
  EXPECT_EQ(pool->allocate(capacity, 8).size(), capacity);
  const shm_handle small = pool->allocate(4 * KiB, 8);  // takes the large one's place
  EXPECT_THAT(text_of(errc::shm_exhausted, [&] { pool->allocate(capacity, 8); }), HasSubstr("max_shm_bytes"));
}

TEST_F(store_test, an_impossible_size_is_refused_and_costs_no_cache) {
  const auto pool = open();
  pool->allocate(64 * KiB, 8);
  for (const std::size_t size : {std::size_t{1} << 50, std::size_t{1} << 62, std::numeric_limits<std::size_t>::max()}) {
    EXPECT_THAT(text_of(errc::shm_exhausted, [&] { pool->allocate(size, 8); }), HasSubstr("the machine has"));
  }
  EXPECT_EQ(pool->stats().cached_segments, 1U);
  EXPECT_EQ(pool->stats().live_segments, 0U);
}

TEST_F(store_test, alignment_is_at_most_a_page) {
  const auto pool = open();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(pool->allocate(10, 4096).data()) % 4096, 0U);
  EXPECT_THROW(pool->allocate(10, 8192), std::system_error);
}

TEST_F(store_test, memfd_backing_leaves_no_name_and_keeps_its_descriptor) {
  const auto pool = open({.backing = backing::memfd});
  shm_handle handle = pool->allocate(3 * MiB, 8);
  EXPECT_EQ(handle.name(), "");
  EXPECT_EQ(names_of(pool->pool_id()), std::vector<std::string>{});
  EXPECT_TRUE(pool->stats().memfd_used);
  const int fd = segment_of(handle).descriptor();
  ASSERT_NE(::fcntl(fd, F_GET_SEALS), -1);
  std::memset(handle.data(), 1, 3 * MiB);
  const std::byte* const where = handle.data();
  handle.reset();
  handle = pool->allocate(3 * MiB, 8);
  EXPECT_EQ(handle.data(), where);
  handle.reset();
  pool->clear();
  EXPECT_EQ(::fcntl(fd, F_GETFD), -1);
}

TEST_F(store_test, close_frees_the_cache_and_makes_each_last_release_free) {
  const auto pool = open();
  shm_handle held = pool->allocate(64 * KiB, 8);
  pool->allocate(128 * KiB, 8);
  pool->close();
  pool->close();
  EXPECT_EQ(names_of(pool->pool_id()).size(), 2U) << "the held one and the lock";
  text_of(errc::pool_closed, [&] { pool->allocate(1, 1); });
  text_of(errc::pool_closed, [&] { pool->lease(1, 0); });
  EXPECT_FALSE(pool->lease_cached(1, 0));
  *held.data() = std::byte{1};
  held.reset();
  EXPECT_EQ(names_of(pool->pool_id()), std::vector<std::string>{});
}

TEST_F(store_test, handles_outlive_the_store) {
  auto pool = open();
  const std::uint64_t id = pool->pool_id();
  shm_handle handle = pool->allocate(64 * KiB, 8);
  shm_handle copy = handle;
  pool.reset();
  handle.reset();
  *copy.data() = std::byte{1};
  EXPECT_EQ(names_of(id).size(), 2U) << "the lock must stay as long as a name does";
  copy.reset();
  EXPECT_EQ(names_of(id), std::vector<std::string>{});
}

TEST_F(store_test, can_lend_only_what_a_store_of_this_process_has_made) {
  const auto pool = open();
  const auto other = open();
  const shm_handle own = pool->allocate(10, 1);
  const shm_handle foreign = other->allocate(10, 1);
  const shm_handle heap{detail::make_heap_segment(10, 1)};
  EXPECT_TRUE(pool->can_lend(own));
  EXPECT_TRUE(pool->can_lend(foreign));
  EXPECT_FALSE(pool->can_lend(heap));
  EXPECT_FALSE(pool->can_lend({}));
  other->close();
  EXPECT_TRUE(pool->can_lend(foreign)) << "its memory outlives it";
}

class listener final : public freed_mailbox {
 public:
  void freed(std::uint64_t id) noexcept override { ids.push_back(id); }
  std::vector<std::uint64_t> ids;
};

TEST_F(store_test, mailboxes_hear_of_what_is_freed_and_of_nothing_else) {
  const auto pool = open();
  const auto first = std::make_shared<listener>();
  auto second = std::make_shared<listener>();
  pool->subscribe(first);
  pool->subscribe(second);
  shm_handle a = pool->allocate(64 * KiB, 8);
  shm_handle b = pool->allocate(128 * KiB, 8);
  const auto a_id = a.get()->id();
  const auto b_id = b.get()->id();
  a.reset();
  EXPECT_TRUE(first->ids.empty()) << "it is only cached";
  pool->clear();
  EXPECT_EQ(first->ids, std::vector{a_id});
  EXPECT_EQ(second->ids, std::vector{a_id});
  second.reset();
  pool->close();
  b.reset();
  EXPECT_EQ(first->ids, (std::vector{a_id, b_id}));
}

TEST_F(store_test, stats_count_reserved_bytes) {
  const auto pool = open();
  shm_handle a = pool->allocate(100 * KiB, 8);
  const shm_handle b = pool->allocate(4 * KiB, 8);
  a.reset();
  const store_stats stats = pool->stats();
  EXPECT_EQ(stats.live_segments, 1U);
  EXPECT_EQ(stats.cached_segments, 1U);
  EXPECT_EQ(stats.live_bytes, 4 * KiB);
  EXPECT_EQ(stats.cached_bytes, 100 * KiB);
  EXPECT_EQ(stats.peak_bytes, 104 * KiB);
  EXPECT_FALSE(stats.memfd_used);
}

TEST_F(store_test, threads_may_allocate_copy_and_release_at_once) {
  const auto pool = open({.max_bytes = 64 * MiB, .cache_bytes = 512 * KiB, .cache_idle = std::chrono::milliseconds{0}});
  std::atomic<bool> corrupted{false};
  std::vector<std::thread> threads;
  for (unsigned number = 1; number <= 4; ++number) {
    threads.emplace_back([&, number] {
      std::minstd_rand random{number};
      std::vector<std::pair<shm_handle, std::byte>> mine;
      for (int round = 0; round < 600; ++round) {
        const std::size_t size = 1 + random() % (160 * KiB);
        const auto mark = static_cast<std::byte>(random());
        shm_handle handle = pool->allocate(size, 8);
        handle.data()[0] = handle.data()[size - 1] = mark;
        handle.data()[size / 2] = mark;
        mine.emplace_back(std::move(handle), mark);
        if (mine.size() > 8) {
          const auto at = static_cast<std::ptrdiff_t>(random() % mine.size());
          const auto& [old, old_mark] = mine[static_cast<std::size_t>(at)];
          if (old.data()[0] != old_mark) corrupted = true;
          const shm_handle last = old;
          mine.erase(mine.begin() + at);
        }
        if (round % 50 == 0) pool->clear();
        if (round % 20 == 0) pool->trim(std::chrono::steady_clock::now());
        if (round % 10 == 0) static_cast<void>(pool->lease(size, number));
        static_cast<void>(pool->stats());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_FALSE(corrupted);
  EXPECT_EQ(pool->stats().live_segments, 0U);
  EXPECT_EQ(pool->stats().live_bytes, 0U);
  EXPECT_LE(pool->stats().cached_bytes, 512 * KiB);
}

}  // namespace
}  // namespace shmpool::shm
