// Small arrays lie many to a file. Nobody may notice, except by how many there can be.
#include "payload.hpp"
#include "support/pending_result.hpp"

#include <csignal>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace {

using namespace shmpool::testing;
using asio::awaitable;
using shmpool::array;
using shmpool::errc;
using shmpool::pool_options;
using shmpool::process_pool;

/// With arrays of any size in shared memory.
pool_options without_inline() {
  auto chosen = options();
  chosen.inline_bytes = 0;
  return chosen;
}

std::vector<array<double>> make_many(std::size_t n, std::size_t length) {
  std::vector<array<double>> all;
  all.reserve(n);
  for (std::size_t i = 0; i != n; ++i) {
    all.push_back(shmpool::make_array<double>(length));
    fill_pattern(all.back(), i);
  }
  return all;
}
std::uint64_t digest_all(std::vector<array<const double>> all) {
  std::uint64_t sum = 0;
  for (const auto& each : all) sum = sum * 31 + digest(each);
  return sum;
}
void increment(array<double>& x, array<double>& y) {
  for (double& each : x) each += 1;
  for (double& each : y) each += 2;
}
array<double> pass_on(array<double> x) {
  for (double& each : x) each *= 2;
  return x;
}

std::optional<array<double>> kept;
array<double> keep(array<double> x) {
  kept = x;
  return x;
}
double drop_kept() {
  const double first = kept ? (*kept)[0] : -1;
  kept.reset();
  return first;
}
double write_to_kept(double value) {
  (*kept)[0] = value;
  return value;
}

/// Writes behind an array, up to the end of the page.
void write_behind(array<double>& x) {
  for (double* at = x.data() + x.size(); reinterpret_cast<std::uintptr_t>(at) % 4096 != 0; ++at) *at = -1;
}
std::size_t write_into_what_is_read(array<const double> x) {
  const_cast<double&>(x[0]) = 0;
  return x.size();
}

// A result could not have more than 8,192 arrays, and each beyond the 64th cost a round trip to the parent.
TEST(small_arrays, a_result_has_as_many_as_one_likes) {
  with_pool(without_inline(), [](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : {1u, 100u, 20'000u, 100u, 20'000u}) {
      const auto all = co_await pool.submit(make_many, n, 20u);
      EXPECT_EQ(all.size(), n);
      for (std::size_t i = 0; i != n; ++i) {
        for (std::size_t at = 0; at != 20; ++at) {
          if (all[i][at] != pattern<double>(at, i)) co_return ADD_FAILURE() << "array " << i << ", element " << at;
        }
      }
      EXPECT_LE(pool.stats().live_segments, 200u);
    }
  });
}

TEST(small_arrays, arguments_have_as_many_as_one_likes) {
  with_pool(without_inline(), [](process_pool& pool) -> awaitable<void> {
    std::vector<array<const double>> all;
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i != 20'000; ++i) {
      all.push_back(make_pattern<double>(pool, i, 7u));
      sum = sum * 31 + digest(all.back());
    }
    EXPECT_EQ(co_await pool.submit(digest_all, all), sum);
    EXPECT_EQ(co_await pool.submit(digest_all, all), sum);
  });
}

// Each had a file and a mapping of its own, of which a process may have 65,530.
TEST(small_arrays, more_live_than_a_process_may_have_mappings) {
  with_pool(without_inline(), [](process_pool& pool) -> awaitable<void> {
    std::vector<array<double>> all;
    for (int i = 0; i != 70'000; ++i) all.push_back(pool.make_array<double>(16u));
    fill_pattern(all.front(), 1);
    fill_pattern(all.back(), 2);
    const auto before = digest(all[35'000]);
    co_await pool.submit(increment, all.front(), all.back());
    EXPECT_EQ(all.front()[3], pattern<double>(3, 1) + 1);
    EXPECT_EQ(all.back()[3], pattern<double>(3, 2) + 2);
    EXPECT_EQ(digest(all[35'000]), before);
    EXPECT_LE(pool.stats().live_bytes, 70'000u * 16u * sizeof(double) * 2u);
  });
}

TEST(small_arrays, neighbours_are_edited_by_tasks_at_the_same_time) {
  with_pool(without_inline(), [](process_pool& pool) -> awaitable<void> {
    std::vector<array<double>> all;
    for (std::size_t i = 0; i != 64; ++i) all.push_back(make_pattern<double>(pool, i, 50u));
    std::vector<pending_result<void>> running(all.size() / 2);
    for (std::size_t i = 0; i != running.size(); ++i) {
      pool.submit(increment, all[2 * i], all[2 * i + 1], running[i].handler());
    }
    for (auto& each : running) co_await each.ended();
    for (std::size_t i = 0; i != all.size(); ++i) {
      EXPECT_EQ(running[i / 2].error(), nullptr);
      for (std::size_t at = 0; at != 50; ++at) {
        EXPECT_EQ(all[i][at], pattern<double>(at, i) + (i % 2 == 0 ? 1 : 2));
      }
    }
  });
}

TEST(small_arrays, one_that_is_lent_for_writing_is_lent_to_nobody_else_and_its_neighbour_is) {
  with_pool(without_inline(), [](process_pool& pool) -> awaitable<void> {
    auto a = pool.make_array<double>(8u), b = pool.make_array<double>(8u), c = pool.make_array<double>(8u);
    pending_result<void> first, same;
    pending_result<std::uint64_t> other;
    pool.submit(increment, a, b, first.handler());
    pool.submit(increment, b, c, same.handler());
    pool.submit(digest_all, std::vector<array<const double>>{c}, other.handler());
    co_await first.ended();
    co_await same.ended();
    co_await other.ended();
    EXPECT_EQ(first.error(), nullptr);
    EXPECT_EQ(code_of(same.error()), errc::array_busy);
    EXPECT_EQ(other.error(), nullptr);
  });
}

TEST(small_arrays, what_a_worker_keeps_is_nobody_elses) {
  auto chosen = without_inline();
  chosen.workers = 1;
  with_pool(chosen, [](process_pool& pool) -> awaitable<void> {
    auto mine = co_await pool.submit(keep, make_pattern<double>(pool, 5, 8u));
    mine = {};
    for (int i = 0; i != 100; ++i) {
      auto others = co_await pool.submit(pass_on, pool.make_array<double>(8u));
      EXPECT_EQ(others[0], 0);
    }
    EXPECT_EQ(co_await pool.submit(write_to_kept, 3.5), 3.5);
    EXPECT_EQ(co_await pool.submit(drop_kept), 3.5);
    EXPECT_EQ(co_await pool.submit(drop_kept), -1);
  });
}

// ---- What a stray write can reach: docs/guarantees.md, 7.

TEST(small_arrays, one_that_is_lent_for_reading_cannot_be_written_though_its_neighbour_can) {
  auto chosen = without_inline();
  chosen.workers = 1;
  with_pool(chosen, [](process_pool& pool) -> awaitable<void> {
    auto read = make_pattern<double>(pool, 1, 8u), written = make_pattern<double>(pool, 2, 8u);
    auto unrelated = pool.make_array<double>(8u);
    co_await pool.submit(increment, written, unrelated);
    bool lost = false;
    try {
      co_await pool.submit(write_into_what_is_read, array<const double>(read));
    } catch (const shmpool::worker_lost& error) {
      lost = error.signal() == SIGSEGV;
    }
    EXPECT_TRUE(lost);
    EXPECT_EQ(read[0], pattern<double>(0, 1));
  });
}

TEST(small_arrays, without_arenas_a_write_behind_one_reaches_no_other) {
  auto chosen = without_inline();
  chosen.workers = 1;
  chosen.arena_bytes = 0;
  with_pool(chosen, [](process_pool& pool) -> awaitable<void> {
    std::vector<array<double>> all;
    for (std::size_t i = 0; i != 32; ++i) all.push_back(make_pattern<double>(pool, i, 100u));
    std::set<std::string> names;
    for (const auto& each : all) names.insert(each.handle().name());
    EXPECT_EQ(names.size(), names.contains("") ? 1u : all.size());  // memfds have none
    for (auto& each : all) co_await pool.submit(write_behind, each);
    for (std::size_t i = 0; i != all.size(); ++i) {
      for (std::size_t at = 0; at != 100; ++at) EXPECT_EQ(all[i][at], pattern<double>(at, i)) << i;
    }
  });
}

TEST(small_arrays, a_bound_that_is_too_large_is_refused) {
  asio::io_context io;
  auto chosen = options();
  chosen.arena_bytes = 64 * 1024 + 1;
  try {
    process_pool pool(io, chosen);
    FAIL() << "it was made";
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(), "pool_options::arena_bytes must be at most 64 KiB");
  }
}

}  // namespace
