// What comes back: arrays without a copy, wherever the task has them from, and values. Those inside of others are in
// arguments_test.cpp.
#include "payload.hpp"

#include <type_traits>
#include <utility>

namespace {

using namespace shmpool::testing;
using asio::awaitable;
using shmpool::array;
using shmpool::process_pool;

array<double> make(std::size_t n, std::uint64_t seed) {
  auto x = shmpool::make_array<double>(n);
  fill_pattern(x, seed);
  return x;
}

std::uint64_t expected(std::size_t n, std::uint64_t seed) {
  std::vector<double> x(n);
  fill_pattern(x, seed);
  return digest(x);
}

TEST(results, an_array_comes_back_without_a_copy_and_is_the_callers) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      array<double> x = co_await pool.submit(make, n, 60u);
      EXPECT_EQ(x.size(), n);
      EXPECT_EQ(digest(x), expected(n, 60));
      EXPECT_EQ(x.handle().use_count(), 1);
      EXPECT_EQ(x.handle().is_shared(), n == many);
      EXPECT_EQ(pool.stats().live_segments, n == many ? 1u : 0u);
      EXPECT_EQ(pool.stats().cached_segments, 0u) << "there was a second segment";
      x[0] = 1;  // its own, to write to and to lend again
      co_await pool.submit([](array<const double> again) { return again[0]; }, x);
    }
  });
}

TEST(results, are_sent_in_memory_that_fits_however_their_size_changes) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    // Each next one is larger than anything cached, then smaller than what is leased in advance.
    for (const std::size_t n :
         {3000UL, 50'000UL, 400'000UL, 3'000'000UL, 2'999'999UL, 10'000UL, 1UL, 2'000'000UL, 0UL}) {
      const array<double> x = co_await pool.submit(make, n, 61u);
      EXPECT_EQ(digest(x), expected(n, 61)) << n;
    }
    EXPECT_EQ(pool.stats().live_segments, 0u);
  });
}

TEST(results, several_are_held_at_once) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    std::vector<array<double>> all;
    for (std::uint64_t seed = 0; seed != 20; ++seed) all.push_back(co_await pool.submit(make, many / 10, seed));
    for (std::uint64_t seed = 0; seed != 20; ++seed) EXPECT_EQ(digest(all[seed]), expected(many / 10, seed));
    EXPECT_EQ(pool.stats().live_segments, 20u);
  });
}

TEST(results, may_be_a_slice_of_what_was_lent) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto x = make_pattern<double>(pool, 62, n);
      const auto middle = [](array<const double> y) { return y.rows(3, y.size() - 2); };
      array<const double> slice = co_await pool.submit(middle, x);
      EXPECT_EQ(digest(slice), digest(x.rows(3, n - 2)));
      if (n == many) {
        EXPECT_EQ(slice.handle(), x.handle());
        EXPECT_EQ(slice.data(), x.data() + 3);
      }
      // And of a slice: nothing outside of it was ever the task's to give.
      slice = co_await pool.submit(middle, x.rows(1, n));
      EXPECT_EQ(digest(slice), digest(x.rows(4, n - 2)));
      // The memory that a task wrote to, as its result.
      const auto written = [](array<double>& y) {
        y[0] = 5;
        return y.rows(0, y.size() / 2);
      };
      const array<double> half = co_await pool.submit(written, x);
      EXPECT_EQ(x[0], 5);
      EXPECT_EQ(digest(half), digest(x.rows(0, n / 2)));
      if (n == many) {
        EXPECT_EQ(half.handle(), x.handle());
      }
    }
  });
}

TEST(results, may_be_what_was_lent_for_writing_beside_what_was_lent_for_reading) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    auto x = make_pattern<double>(pool, 72, many);
    auto upper = x.rows(0, many / 2), lower = x.rows(many / 2, many);
    const auto both = [](array<const double> a, array<double>& b) {
      b[0] = 1;
      return std::pair(a.rows(1, 5000), b.rows(0, 5000));
    };
    const auto [a, b] = co_await pool.submit(both, upper, lower);
    EXPECT_EQ(a.data(), x.data() + 1);
    EXPECT_EQ(b.data(), x.data() + many / 2);
    const auto reversed = [](array<double>& c, array<const double> d) {
      return std::pair(c.rows(0, 5000), d.rows(1, 5000));
    };
    const auto [c, d] = co_await pool.submit(reversed, upper, lower);
    EXPECT_EQ(c.data(), x.data());
    EXPECT_EQ(d.data(), x.data() + many / 2 + 1);
  });
}

TEST(results, two_arrays_in_the_same_memory_stay_in_the_same_memory) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    const auto halves = [](std::size_t n) {
      auto x = make(n, 63);
      return std::pair(x.rows(0, n / 2), x.rows(n / 2, n));
    };
    auto [left, right] = co_await pool.submit(halves, many);
    EXPECT_EQ(left.handle(), right.handle());
    EXPECT_EQ(left.end(), right.begin());
    EXPECT_EQ(digest(left.reshape(many / 2)), digest(make(many, 63).rows(0, many / 2)));
    EXPECT_EQ(digest(right), digest(make(many, 63).rows(many / 2, many)));
    EXPECT_EQ(pool.stats().live_segments, 1u);
  });
}

TEST(results, temporaries_of_a_task_leave_nothing_behind) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    const auto work = [](std::size_t n) {
      double sum = 0;
      for (int i = 0; i != 20; ++i) {
        auto one = shmpool::make_array<double>(n, 1.0);
        auto two = shmpool::make_array<double>(2 * n, 2.0);
        auto copy = one.clone();
        sum += one[n - 1] + two[2 * n - 1] + copy[0];
      }
      auto result = shmpool::make_array<double>(n, sum);
      return result;
    };
    for (int round = 0; round != 3; ++round) {
      const array<double> x = co_await pool.submit(work, many / 10);
      EXPECT_EQ(x[many / 10 - 1], 80);
      EXPECT_EQ(pool.stats().live_segments, 1u);
    }
    EXPECT_LE(pool.stats().cached_segments, 4u) << "dropped temporaries were not used again";
  });
}

// ---- Values.

struct padded {
  char tag;
  double value;
  friend bool operator==(const padded&, const padded&) = default;
};
enum class level : std::int16_t { low = -300, high = 300 };

int runs = 0;
void count_run() {
  ++runs;
}
int counted() {
  return runs;
}

TEST(results, void_bool_enum_and_struct) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    static_assert(std::is_void_v<decltype(pool.submit(count_run).await_resume())>);
    co_await pool.submit(count_run);
    EXPECT_EQ(co_await pool.submit(counted), 1);
    EXPECT_EQ(runs, 0);
    EXPECT_EQ(co_await pool.submit([] { return true; }), true);
    EXPECT_EQ(co_await pool.submit([] { return level::low; }), level::low);
    EXPECT_EQ(co_await pool.submit([] { return padded{'p', 0.5}; }), (padded{'p', 0.5}));
  });
}

TEST(results, outlive_the_pool) {
  array<double> large, small;
  {
    asio::io_context io;
    process_pool pool(io, options());
    large = run(
        io, [](process_pool& p) -> awaitable<array<double>> { co_return co_await p.submit(make, many, 71u); }(pool));
    small =
        run(io, [](process_pool& p) -> awaitable<array<double>> { co_return co_await p.submit(make, few, 71u); }(pool));
  }
  EXPECT_EQ(digest(large), expected(many, 71));
  EXPECT_EQ(digest(small), expected(few, 71));
  large[0] = 1;
  const std::string name = large.handle().name();
  if (named_memory()) {
    EXPECT_TRUE(std::filesystem::exists("/dev/shm/" + name));
  }
  large = {};
  EXPECT_FALSE(std::filesystem::exists("/dev/shm/" + name) && !name.empty());
}

}  // namespace
