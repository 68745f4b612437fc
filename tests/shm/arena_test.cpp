// Small segments, many to a file.
#include "shm/arena.hpp"

#include "shm_fixture.hpp"

#include <shmpool/error.hpp>

#include <sys/resource.h>

#include <cstring>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace shmpool::shm {
namespace {

pool_segment& itself(const shm_handle& handle) {
  return static_cast<pool_segment&>(*handle.get());
}

bool is_block(const shm_handle& handle) {
  return itself(handle).is_block();
}

class arena_test : public shm_fixture {
 protected:
  static store_options small(std::size_t budget = 0, std::size_t arena_bytes = largest_block) {
    store_options options;
    options.max_bytes = budget;
    options.arena_bytes = arena_bytes;
    return options;
  }
};

TEST(block_length, is_at_most_an_eighth_too_long) {
  EXPECT_EQ(block_length(0), block_alignment);
  EXPECT_EQ(block_length(1), block_alignment);
  EXPECT_EQ(block_length(4096), 4096U);
  EXPECT_EQ(block_length(4097), 4608U);
  EXPECT_EQ(block_length(largest_block), largest_block);
  EXPECT_EQ(block_length(100, 4096), 4096U);
  std::set<std::size_t> lengths;
  for (std::size_t bytes = 1; bytes <= largest_block; ++bytes) {
    const std::size_t length = block_length(bytes);
    ASSERT_GE(length, bytes);
    ASSERT_EQ(length % block_alignment, 0U);
    ASSERT_LE(length - bytes, std::max(bytes / 8, block_alignment - 1));
    ASSERT_EQ(block_length(length), length) << "of " << bytes;
    lengths.insert(length);
  }
  EXPECT_LT(lengths.size(), 80U);
}

TEST_F(arena_test, small_segments_share_a_file_and_no_byte) {
  const auto pool = open(small());
  std::vector<shm_handle> all;
  std::set<std::uint64_t> ids;
  for (int i = 0; i != 4; ++i) {
    all.push_back(pool->allocate(4000, 64));
    ASSERT_TRUE(is_block(all.back()));
    EXPECT_EQ(all.back().name(), all.front().name());
    EXPECT_GE(all.back().size(), 4000U);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(all.back().data()) % block_alignment, 0U);
    EXPECT_EQ(itself(all.back()).file().data() + itself(all.back()).place(), all.back().data());
    ids.insert(all.back().get()->id());
    std::memset(all.back().data(), i, all.back().size());
  }
  ids.insert(itself(all.front()).file().id());
  EXPECT_EQ(ids.size(), 5U);
  for (int i = 0; i != 4; ++i) {
    for (std::size_t at = 0; at != 4000; ++at) ASSERT_EQ(all[static_cast<std::size_t>(i)].data()[at], std::byte(i));
  }
  EXPECT_EQ(names_of(pool->pool_id()).size(), 2U);  // and the lock file
  EXPECT_EQ(pool->stats().live_segments, 1U);
}

TEST_F(arena_test, fresh_blocks_read_zero_and_are_in_the_page_tables) {
  const auto pool = open(small());
  for (int i = 0; i != 100; ++i) {
    const shm_handle each = pool->allocate(4 * KiB, 64);
    for (std::size_t at = 0; at != 4 * KiB; ++at) ASSERT_EQ(each.data()[at], std::byte{0});
    EXPECT_EQ(pages_in_place(each.data(), 4 * KiB), 1U);
  }
}

TEST_F(arena_test, the_first_takes_little_and_many_take_few_files) {
  const auto pool = open(small());
  std::vector<shm_handle> all{pool->allocate(4 * KiB, 64)};
  EXPECT_EQ(pool->stats().live_bytes, 16 * KiB);
  while (all.size() != 20'000) all.push_back(pool->allocate(4 * KiB, 64));
  EXPECT_LE(pool->stats().live_bytes, 20'000 * 4 * KiB * 11 / 10);
  EXPECT_LE(names_of(pool->pool_id()).size(), 60U);
}

TEST_F(arena_test, the_block_that_was_freed_last_is_used_first) {
  const auto pool = open(small());
  const shm_handle stays = pool->allocate(4 * KiB, 64);
  shm_handle first = pool->allocate(4 * KiB, 64), second = pool->allocate(4 * KiB, 64);
  const std::byte* const freed = first.data();
  const std::uint64_t id = first.get()->id();
  second.reset();
  first.reset();
  const shm_handle again = pool->allocate(4090, 64);
  EXPECT_EQ(again.data(), freed);
  EXPECT_EQ(again.get()->id(), id) << "workers know it by this";
}

TEST_F(arena_test, its_file_is_kept_warm_when_the_last_block_is_free) {
  const auto pool = open(small());
  shm_handle a = pool->allocate(4 * KiB, 64), b = pool->allocate(4 * KiB, 64);
  const std::string name = a.name();
  a.reset();
  EXPECT_EQ(pool->stats().live_segments, 1U);
  b.reset();
  EXPECT_EQ(pool->stats().live_segments, 0U);
  EXPECT_EQ(pool->stats().live_bytes, 0U);
  EXPECT_EQ(pool->stats().cached_segments, 1U);
  EXPECT_EQ(pool->allocate(4000, 64).name(), name);
  EXPECT_EQ(pool->clear().freed, 1U);
  EXPECT_FALSE(exists(name));
}

TEST_F(arena_test, full_arenas_come_back_when_one_of_their_blocks_is_free) {
  const auto pool = open(small());
  std::vector<shm_handle> all;
  while (pool->stats().live_segments < 4) all.push_back(pool->allocate(4 * KiB, 64));
  const shm_handle last = all.back();
  std::vector<const std::byte*> freed;
  for (std::size_t i = 0; i + 1 < all.size(); i += 7) {
    freed.push_back(all[i].data());
    all[i].reset();
  }
  // The newest arena has room as well, so all the freed ones are used again at the latest when it is full.
  std::set<const std::byte*> got;
  while (pool->stats().live_segments == 4) {
    all.push_back(pool->allocate(4 * KiB, 64));
    got.insert(all.back().data());
  }
  for (const std::byte* each : freed) EXPECT_TRUE(got.contains(each));
}

TEST_F(arena_test, lends_of_neighbours_do_not_meet) {
  const auto pool = open(small());
  const shm_handle a = pool->allocate(4 * KiB, 64), b = pool->allocate(4 * KiB, 64);
  EXPECT_TRUE(begin_lend(itself(a), 0, 4 * KiB, true));
  EXPECT_TRUE(begin_lend(itself(b), 0, 4 * KiB, true));
  EXPECT_FALSE(begin_lend(itself(a), 100, 1, false));
  end_lend(itself(a), 0, 4 * KiB, true);
  EXPECT_TRUE(begin_lend(itself(a), 100, 1, false));
  end_lend(itself(a), 100, 1, false);
  end_lend(itself(b), 0, 4 * KiB, true);
}

TEST_F(arena_test, a_block_that_is_used_again_is_not_lent) {
  const auto pool = open(small());
  const shm_handle stays = pool->allocate(4 * KiB, 64);
  shm_handle a = pool->allocate(4 * KiB, 64);
  const std::byte* const place = a.data();
  EXPECT_TRUE(begin_lend(itself(a), 0, 4 * KiB, true));
  a.reset();
  a = pool->allocate(4 * KiB, 64);
  ASSERT_EQ(a.data(), place);
  EXPECT_TRUE(begin_lend(itself(a), 0, 4 * KiB, true));
}

TEST_F(arena_test, a_budget_that_has_no_room_for_an_arena_has_room_for_a_file) {
  const auto pool = open(small(12 * KiB));
  const shm_handle a = pool->allocate(4 * KiB, 64), b = pool->allocate(4 * KiB, 64);
  EXPECT_FALSE(is_block(a));
  EXPECT_EQ(pool->stats().live_bytes, 8 * KiB);
  try {
    pool->allocate(5 * KiB, 64);
    FAIL() << "the budget is full";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), errc::shm_exhausted);
    EXPECT_NE(std::string(error.what()).find("5120 bytes"), std::string::npos) << error.what();
  }
}

TEST_F(arena_test, a_budget_is_used_up_before_it_refuses) {
  const auto pool = open(small(8 * MiB));
  std::vector<shm_handle> all;
  while (all.size() != 2048) all.push_back(pool->allocate(4 * KiB, 64));
  EXPECT_EQ(pool->stats().live_bytes, 8 * MiB);
  for (const shm_handle& each : all) EXPECT_TRUE(is_block(each));
  EXPECT_THROW(pool->allocate(4 * KiB, 64), std::system_error);
}

// The first arena of each length took 64 KiB: 16 arrays of 12 KB together filled a budget of 1 MiB.
TEST_F(arena_test, arrays_of_many_lengths_leave_most_of_a_budget) {
  const auto pool = open(small(1 * MiB));
  std::vector<shm_handle> all;
  std::size_t bytes = 0;
  for (std::size_t length = 64; length <= largest_block; length = block_length(length + 1)) {
    if (bytes + length > 600 * KiB) break;
    all.push_back(pool->allocate(length, 64));
    bytes += length;
  }
  EXPECT_GT(bytes, 500 * KiB);
}

TEST_F(arena_test, without_arenas_each_segment_has_a_file) {
  const auto pool = open(small(0, 0));
  const shm_handle a = pool->allocate(4 * KiB, 64), b = pool->allocate(4 * KiB, 64);
  EXPECT_FALSE(is_block(a));
  EXPECT_NE(a.name(), b.name());
}

TEST_F(arena_test, what_is_longer_than_arena_bytes_has_a_file) {
  const auto pool = open(small(0, 8 * KiB));
  EXPECT_TRUE(is_block(pool->allocate(8 * KiB, 64)));
  EXPECT_FALSE(is_block(pool->allocate(8 * KiB + 1, 64)));
}

TEST_F(arena_test, a_block_is_aligned_as_asked) {
  const auto pool = open(small());
  const shm_handle first = pool->allocate(100, 64);
  for (const std::size_t alignment : {64U, 128U, 512U, 4096U}) {
    std::vector<shm_handle> several;
    for (int i = 0; i != 5; ++i) {
      several.push_back(pool->allocate(100, alignment));
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(several.back().data()) % alignment, 0U);
    }
  }
}

TEST_F(arena_test, a_lease_made_in_advance_takes_a_block_that_is_there) {
  const auto pool = open(small());
  EXPECT_FALSE(pool->lease_cached(4 * KiB, 1));
  const shm_handle leased = pool->lease(4 * KiB, 1);
  EXPECT_TRUE(is_block(leased));
  EXPECT_TRUE(itself(leased).file().created());
  EXPECT_TRUE(itself(leased).file().mapped());
  const shm_handle warm = pool->lease_cached(4 * KiB, 1);
  ASSERT_TRUE(warm);
  EXPECT_EQ(warm.name(), leased.name());
}

// The arena had gone to the cache with the result of the task before: each task asked for its memory.
TEST_F(arena_test, a_lease_made_in_advance_takes_an_arena_from_the_cache) {
  const auto pool = open(small());
  const std::string name = pool->lease(20 * KiB, 1).name();
  EXPECT_EQ(pool->stats().live_segments, 0U);
  EXPECT_EQ(pool->lease_cached(20 * KiB, 1).name(), name);
}

// An arena was made of any cached file that was long enough for one, whatever the budget, and a cached file that would
// have done as it was stayed where it was.
TEST_F(arena_test, a_lease_made_in_advance_makes_no_arena_that_the_budget_is_too_small_for) {
  const auto pool = open(small(1 * MiB));
  const std::size_t arena_bytes = arena_table::first_file(block_length(20 * KiB));
  pool->allocate(arena_bytes, 64).reset();
  EXPECT_FALSE(pool->lease_cached(20 * KiB, 1));
  shm_handle made = pool->allocate(20 * KiB, 64);
  EXPECT_FALSE(is_block(made));
  const std::uint64_t kept = made.get()->id();
  made.reset();
  const shm_handle leased = pool->lease_cached(20 * KiB, 1);
  ASSERT_TRUE(leased);
  EXPECT_FALSE(is_block(leased));
  EXPECT_EQ(leased.get()->id(), kept);
}

TEST_F(arena_test, nothing_is_a_block_where_there_are_no_arenas) {
  const auto pool = open(small(0, 0));
  EXPECT_FALSE(is_block(pool->lease(0, 1)));
  EXPECT_FALSE(pool->lease_cached(0, 1) && is_block(pool->lease_cached(0, 1)));
}

TEST_F(arena_test, blocks_live_on_when_the_store_is_closed) {
  auto pool = open(small());
  shm_handle a = pool->allocate(4 * KiB, 64), b = pool->allocate(4 * KiB, 64);
  pool->close();
  EXPECT_FALSE(pool->lease_cached(4 * KiB, 1));
  EXPECT_THROW(pool->allocate(4 * KiB, 64), std::system_error);
  pool.reset();
  const std::string name = a.name();
  a.reset();
  std::memset(b.data(), 1, b.size());
  EXPECT_TRUE(exists(name));
  b.reset();
  EXPECT_FALSE(exists(name));
}

// A worker that does not have the file yet could not open it.
TEST_F(arena_test, an_arena_without_its_name_gives_no_blocks_any_more) {
  const auto pool = open(small());
  const shm_handle a = pool->allocate(4 * KiB, 64);
  unlink_named(a.name());
  int descriptor = -1;
  EXPECT_FALSE(itself(a).file().find_descriptor(descriptor)) << "and notices";
  EXPECT_GE(descriptor, 0);
  const shm_handle b = pool->allocate(4 * KiB, 64);
  EXPECT_NE(b.name(), a.name());
  EXPECT_TRUE(exists(b.name()));
}

// Where descriptors are few, only the name leads to an arena. Arrays that were made after it had gone could not be
// used.
TEST_F(arena_test, an_arena_whose_name_has_gone_is_found_out) {
  EXPECT_EQ(child{[&] {
              rlimit few{};
              few.rlim_cur = few.rlim_max = 32;
              SHMPOOL_CHECK(::setrlimit(RLIMIT_NOFILE, &few) == 0);
              const auto pool = store::open(small());
              std::vector<shm_handle> all;
              while (pool->stats().live_segments != 8) all.push_back(pool->allocate(4 * KiB, 64));
              const std::string name = all.back().name();  // its descriptor was one too many
              unlink_named(name);
              const shm_handle next = pool->allocate(4 * KiB, 64);
              SHMPOOL_CHECK(next.name() != name);
              all.clear();
              return 0;
            }}.wait(),
            0);
}

TEST_F(arena_test, memfds_have_blocks_too) {
  store_options options = small();
  options.backing = backing::memfd;
  const auto pool = open(options);
  const shm_handle a = pool->allocate(4 * KiB, 64), b = pool->allocate(4 * KiB, 64);
  EXPECT_TRUE(a.name().empty());
  EXPECT_TRUE(is_block(a));
  EXPECT_EQ(itself(a).file().descriptor(), itself(b).file().descriptor());
}

TEST_F(arena_test, a_forked_copy_gives_nothing_back) {
  const auto pool = open(small());
  shm_handle a = pool->allocate(4 * KiB, 64), b = pool->allocate(4 * KiB, 64);
  std::memset(a.data(), 7, a.size());
  EXPECT_EQ(child{[&] {
              a.reset();
              b.reset();
              return exists(names_of(pool->pool_id()).front()) ? 0 : 1;
            }}.wait(),
            0);
  EXPECT_EQ(a.data()[100], std::byte{7});
  EXPECT_NE(pool->allocate(4 * KiB, 64).data(), a.data());
}

TEST_F(arena_test, threads_take_and_give_back_blocks) {
  const auto pool = open(small());
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed <= 4; ++seed) {
    threads.emplace_back([&pool, seed] {
      std::minstd_rand random(seed);
      std::vector<std::pair<shm_handle, unsigned char>> held;
      for (int i = 0; i != 4000; ++i) {
        if (held.size() < 100 && random() % 5 < 3) {
          const auto mark = static_cast<unsigned char>(random());
          held.emplace_back(pool->allocate(1 + random() % 3000, 64), mark);
          std::memset(held.back().first.data(), mark, held.back().first.size());
        } else if (!held.empty()) {
          std::swap(held[random() % held.size()], held.back());
          for (std::size_t at = 0; at != held.back().first.size(); ++at)
            ASSERT_EQ(held.back().first.data()[at], std::byte{held.back().second});
          held.pop_back();
        }
      }
    });
  }
  for (auto& each : threads) each.join();
  EXPECT_EQ(pool->stats().live_segments, 0U);
  EXPECT_EQ(pool->stats().live_bytes, 0U);
}

}  // namespace
}  // namespace shmpool::shm
