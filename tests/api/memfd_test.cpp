// pool_options::backing = memfd: the rows of the parameter table hold where arrays have no name under /dev/shm, and
// their descriptors are passed to workers.
#include "payload.hpp"

#include <csignal>
#include <filesystem>
#include <map>

namespace {

using namespace shmpool::testing;
using asio::awaitable;
using shmpool::array;
using shmpool::process_pool;

shmpool::pool_options nameless(unsigned workers = 2) {
  auto result = options();
  result.workers = workers;
  result.backing = shmpool::backing::memfd;
  return result;
}

/// Descriptors that this process has open.
std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

std::uint64_t read(array<const double> x) {
  return digest(x);
}
void edit(array<double>& x) {
  fill_pattern(x, 111);
}
array<double> pass_on(array<double> x) {
  return x;
}
array<double> make(std::size_t n, std::uint64_t seed) {
  auto x = shmpool::make_array<double>(n);
  fill_pattern(x, seed);
  return x;
}

TEST(memfd, says_so_and_leaves_no_name) {
  with_pool(nameless(), [](process_pool& pool) -> awaitable<void> {
    auto x = make_pattern<double>(pool, 110, many);
    EXPECT_EQ(pool.stats().backing, "memfd");
    EXPECT_TRUE(x.handle().is_shared());
    EXPECT_TRUE(x.handle().name().empty());
    const array<double> y = co_await pool.submit(make, many, 110u);
    EXPECT_TRUE(y.handle().is_shared());
    EXPECT_TRUE(y.handle().name().empty());
  });
}

TEST(memfd, arrays_are_lent_moved_copied_and_returned) {
  with_pool(nameless(), [](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto x = make_pattern<double>(pool, 110, n);
      for (int i = 0; i != 3; ++i) EXPECT_EQ(co_await pool.submit(read, x), digest(x));
      EXPECT_EQ(co_await pool.submit(read, x.rows(3, n - 1)), digest(x.rows(3, n - 1)));
      co_await pool.submit(edit, x);
      EXPECT_EQ(digest(x), digest(make(n, 111)));
      const array<double> copy = co_await pool.submit(pass_on, x);
      EXPECT_EQ(digest(copy), digest(x));
      EXPECT_NE(copy.handle(), x.handle());
      const auto id = x.handle().get()->id();
      const array<double> moved = co_await pool.submit(pass_on, std::move(x));
      EXPECT_EQ(digest(moved), digest(copy));
      EXPECT_EQ(moved.handle().get()->id() == id, n == many);
      const std::vector<double> vector(n, 0.25);
      EXPECT_EQ(co_await pool.submit(read, vector), digest(vector));
      const array<double> made = co_await pool.submit(make, n, 112u);
      EXPECT_EQ(digest(made), digest(make(n, 112)));
    }
  });
}

TEST(memfd, nested_arrays_and_large_values) {
  with_pool(nameless(), [](process_pool& pool) -> awaitable<void> {
    using dictionary = std::map<std::string, array<double>>;
    const auto grow = [](dictionary all) {
      all["new"] = make(all.at("a").size(), 113);
      all.at("a")[0] = 9;
      return all;
    };
    for (const std::size_t n : lengths) {
      dictionary all;
      all["a"] = pool.make_array<double>(n, 1.0);
      dictionary back = co_await pool.submit(grow, std::move(all));
      EXPECT_EQ(back["a"][0], 9);
      EXPECT_EQ(digest(back["new"]), digest(make(n, 113)));
      const std::string text(10 * n, 't');
      EXPECT_EQ(co_await pool.submit([](const std::string& x) { return x + "!"; }, text), text + "!");
    }
  });
}

TEST(memfd, memory_is_used_again_and_descriptors_do_not_pile_up) {
  with_pool(nameless(1), [](process_pool& pool) -> awaitable<void> {
    auto x = make_pattern<double>(pool, 110, many);
    const auto round = [&]() -> awaitable<std::size_t> {
      const auto both = [](array<const double> y) { return std::pair(y.clone(), open_descriptors()); };
      const auto [copy, descriptors] = co_await pool.submit(both, x);
      EXPECT_EQ(copy[many - 1], x[many - 1]);
      co_return descriptors;
    };
    co_await round();
    const std::size_t there = co_await round(), here = open_descriptors();
    const auto before = pool.stats();
    for (int i = 0; i != 20; ++i) EXPECT_EQ(co_await round(), there);
    EXPECT_EQ(open_descriptors(), here);
    EXPECT_EQ(pool.stats().cached_segments, before.cached_segments);
    EXPECT_EQ(pool.stats().peak_bytes, before.peak_bytes);

    // What is cleared is closed on both sides: here at once, in the worker before its next task.
    for (int i = 0; i != 20; ++i) {
      co_await round();
      EXPECT_EQ(pool.clear_shm().freed, 1u);
      EXPECT_LE(co_await round(), there);
    }
    EXPECT_LE(open_descriptors(), here);
  });
}

TEST(memfd, a_stray_write_and_a_death_cost_the_caller_nothing) {
  with_pool(nameless(), [](process_pool& pool) -> awaitable<void> {
    auto x = make_pattern<double>(pool, 110, many);
    int signal = 0;
    try {
      co_await pool.submit([](array<const double> y) { const_cast<double&>(y[5]) = 0; }, x);
    } catch (const shmpool::worker_lost& lost) {
      signal = lost.signal();
    }
    EXPECT_EQ(signal, SIGSEGV);
    EXPECT_EQ(digest(x), digest(make(many, 110)));
    // The new worker is given the descriptor, too.
    EXPECT_EQ(co_await pool.submit(read, x), digest(x));
    EXPECT_EQ(pool.stats().live_segments, 1u);
  });
}

array<double> kept;

TEST(memfd, a_worker_may_keep_an_array) {
  with_pool(nameless(1), [](process_pool& pool) -> awaitable<void> {
    co_await pool.submit([] { kept = make(many, 114); });
    EXPECT_EQ(pool.clear_shm().still_held, 1u);
    {
      const array<double> same = co_await pool.submit([] { return kept; });
      EXPECT_EQ(digest(same), digest(make(many, 114)));
    }
    co_await pool.submit([] { kept = {}; });
    EXPECT_EQ(pool.clear_shm().freed, 1u);
  });
}

TEST(memfd, many_segments_reach_a_worker_at_once) {
  with_pool(nameless(1), [](process_pool& pool) -> awaitable<void> {
    std::vector<array<const double>> all;
    for (std::uint64_t seed = 0; seed != 300; ++seed) all.push_back(make_pattern<double>(pool, seed, 2100));
    const auto last = [](const std::vector<array<const double>>& x) {
      std::vector<double> each;
      for (const auto& array : x) each.push_back(array[2099]);
      return each;
    };
    const auto seen = co_await pool.submit(last, all);
    for (std::size_t i = 0; i != 300; ++i) EXPECT_EQ(seen[i], pattern<double>(2099, i));
  });
}

}  // namespace
