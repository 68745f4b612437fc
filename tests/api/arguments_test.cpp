// The rows of the parameter table that read, move and copy arrays: what the worker sees of them, how much of it is the
// caller's own memory, and what it cannot do to it. Each on both sides of the inline threshold.
#include "payload.hpp"

#include <csignal>
#include <memory>
#include <numeric>
#include <tuple>
#include <type_traits>

namespace {

using namespace shmpool::testing;
using asio::awaitable;
using shmpool::array;
using shmpool::process_pool;

std::uint64_t read_array(array<const double> x) {
  return digest(x);
}
std::uint64_t read_array_reference(const array<const double>& x) {
  return digest(x);
}
std::uint64_t read_span(std::span<const double> x) {
  return digest(x);
}
std::uint64_t read_vector(const std::vector<double>& x) {
  return digest(x);
}
std::uint64_t read_own_vector(std::vector<double> x) {
  return digest(x);
}

template <class Argument>
awaitable<void> expect_read(process_pool& pool, Argument& x, std::uint64_t expected) {
  EXPECT_EQ(co_await pool.submit(read_array, x), expected);
  EXPECT_EQ(co_await pool.submit(read_array_reference, x), expected);
  EXPECT_EQ(co_await pool.submit(read_span, x), expected);
  EXPECT_EQ(co_await pool.submit(read_vector, x), expected);
  EXPECT_EQ(co_await pool.submit(read_own_vector, x), expected);
}

TEST(arguments, every_reading_parameter_sees_the_elements_of_an_array) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto x = make_pattern<double>(pool, 1, n);
      const std::uint64_t expected = digest(x);
      co_await expect_read(pool, x, expected);
      array<const double> constant = x;
      co_await expect_read(pool, constant, expected);
      EXPECT_EQ(digest(x), expected);
      EXPECT_EQ(x.handle().use_count(), 2);
    }
  });
}

/// A contiguous range of a user's own, as a matrix library has.
struct column {
  std::vector<double> storage;
  const double* begin() const { return storage.data(); }
  const double* end() const { return storage.data() + storage.size(); }
};

TEST(arguments, every_reading_parameter_takes_a_foreign_contiguous_range) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      std::vector<double> vector(n);
      fill_pattern(vector, 2);
      const std::uint64_t expected = digest(vector);
      co_await expect_read(pool, vector, expected);
      const std::vector<double>& constant = vector;
      co_await expect_read(pool, constant, expected);
      std::span<const double> span(vector);
      co_await expect_read(pool, span, expected);
      column foreign{vector};
      co_await expect_read(pool, foreign, expected);
      // An rvalue is moved into the operation and read there.
      std::vector<double> moved = vector;
      EXPECT_EQ(co_await pool.submit(read_span, std::move(moved)), expected);
      EXPECT_TRUE(moved.empty());
    }
    std::array<double, few> fixed;
    fill_pattern(fixed, 2);
    co_await expect_read(pool, fixed, digest(fixed));
    double plain[few];
    fill_pattern(plain, 2);
    co_await expect_read(pool, plain, digest(fixed));
    EXPECT_EQ(co_await pool.submit([](std::span<const double, few> x) { return digest(x); }, fixed), digest(fixed));
  });
}

TEST(arguments, an_array_without_a_pool_is_copied_into_shared_memory) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto x = shmpool::make_array<double>(n);
      fill_pattern(x, 3);
      EXPECT_FALSE(x.handle().is_shared());
      co_await expect_read(pool, x, digest(x));
    }
  });
}

// ---- Lent for reading: the same pages, and no way to write to them.

array<const double> kept_view;
void keep_view(array<const double> x) {
  kept_view = x;
}
double kept_element(std::size_t i) {
  return kept_view[i];
}
void drop_view() {
  kept_view = {};
}

TEST(arguments, an_array_that_is_lent_for_reading_is_the_callers_own_memory) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    auto x = make_pattern<double>(pool, 4, many);
    const auto before = pool.stats();
    co_await pool.submit(keep_view, x);
    x[many - 1] = 42;  // after the task: only a worker that looks at these very pages can see it
    EXPECT_EQ(co_await pool.submit(kept_element, many - 1), 42);
    x[0] = 43;
    EXPECT_EQ(co_await pool.submit(kept_element, std::size_t{0}), 43);
    const auto after = pool.stats();
    EXPECT_EQ(after.live_segments, before.live_segments);
    EXPECT_EQ(after.live_bytes, before.live_bytes);
    EXPECT_EQ(after.cached_segments, 0u);
    co_await pool.submit(drop_view);
  });
}

TEST(arguments, a_small_array_rides_in_the_message) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    auto x = make_pattern<double>(pool, 4, few);
    const double first = x[0];
    co_await pool.submit(keep_view, x);
    EXPECT_EQ(x.handle().use_count(), 1);
    x[0] = 42;
    EXPECT_EQ(co_await pool.submit(kept_element, std::size_t{0}), first);
    EXPECT_EQ(pool.stats().live_segments, 1u);
    co_await pool.submit(drop_view);
  });
}

void overwrite(array<const double> x) {
  const_cast<double&>(x[x.size() / 2]) = -1;
}

TEST(arguments, writing_to_an_array_that_is_lent_for_reading_costs_the_worker_its_life_and_the_array_nothing) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    auto x = make_pattern<double>(pool, 5, many);
    const std::uint64_t expected = digest(x);
    bool lost = false;
    try {
      co_await pool.submit(overwrite, x);
    } catch (const shmpool::worker_lost& error) {
      lost = true;
      EXPECT_EQ(error.signal(), SIGSEGV);
      EXPECT_TRUE(error.started());
    }
    EXPECT_TRUE(lost);
    EXPECT_EQ(digest(x), expected);
    EXPECT_EQ(x.handle().use_count(), 1);
    EXPECT_EQ(co_await pool.submit(read_array, x), expected);
  });
}

std::pair<bool, std::uint64_t> read_twice(array<const double> a, array<const double> b) {
  return {a.data() == b.data(), digest(a) ^ std::rotl(digest(b), 1)};
}

TEST(arguments, the_same_array_may_be_lent_for_reading_twice_in_one_call) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto x = make_pattern<double>(pool, 6, n);
      const auto [same, seen] = co_await pool.submit(read_twice, x, x);
      EXPECT_EQ(same, n == many);
      EXPECT_EQ(seen, digest(x) ^ std::rotl(digest(x), 1));
      // Two views of it that overlap.
      const auto [differs, parts] = co_await pool.submit(read_twice, x.rows(0, n - 3), x.rows(3, n));
      EXPECT_FALSE(differs);
      EXPECT_EQ(parts, digest(x.rows(0, n - 3)) ^ std::rotl(digest(x.rows(3, n)), 1));
    }
  });
}

TEST(arguments, slices_arrive_as_what_they_show) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto bytes = make_pattern<std::uint8_t>(pool, 7, 4 * n);
      const auto read_bytes = [](array<const std::uint8_t> x) { return digest(x); };
      for (const auto& [first, last] : {std::pair{std::size_t{1}, 4 * n}, {7, 4 * n - 13}, {n + 3, n + 4}, {5, 5}}) {
        auto slice = bytes.rows(first, last);
        EXPECT_EQ(co_await pool.submit(read_bytes, slice), digest(slice)) << first << " to " << last;
      }
      auto table = make_pattern<float>(pool, 8, n / 5, 5, 3);
      auto middle = table[n / 10 + 1];  // rank 2, at an offset that is no multiple of anything
      const auto read_row = [](array<const float, 2> x) { return std::tuple(x.extents(), digest(x)); };
      EXPECT_EQ(co_await pool.submit(read_row, middle), (std::tuple(std::array<std::size_t, 2>{5, 3}, digest(middle))));
      EXPECT_EQ(co_await pool.submit([](std::span<const float> x) { return digest(x); }, middle[3]), digest(middle[3]));
    }
  });
}

// ---- Moved and copied.

std::tuple<std::uint64_t, array<double>> own(array<double> x) {
  const std::uint64_t seen = digest(x);
  for (double& element : x) element += 1;
  return {seen, std::move(x)};
}
std::uint64_t consume(array<double> x) {
  const std::uint64_t seen = digest(x);
  x[0] = -1;
  return seen;
}

TEST(arguments, an_array_that_is_moved_there_and_returned_stays_where_it_is) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    auto x = make_pattern<double>(pool, 9, many);
    const std::uint64_t expected = digest(x);
    const double first = x[0];
    const auto id = x.handle().get()->id();
    const std::string name = x.handle().name();
    for (int round = 1; round != 4; ++round) {
      const std::uint64_t seen_before = digest(x);
      auto [seen, back] = co_await pool.submit(own, std::move(x));
      EXPECT_EQ(x.size(), 0u);
      EXPECT_FALSE(x.handle());
      EXPECT_EQ(seen, seen_before);
      EXPECT_EQ(back[0], first + round);
      EXPECT_EQ(back.handle().get()->id(), id);
      EXPECT_EQ(back.handle().name(), name);
      EXPECT_EQ(back.handle().use_count(), 1);
      x = std::move(back);
    }
    for (double& element : x) element -= 3;
    EXPECT_EQ(digest(x), expected);
    EXPECT_EQ(pool.stats().live_segments, 1u);
    EXPECT_EQ(pool.stats().cached_segments, 0u);
  });
}

TEST(arguments, an_array_that_is_moved_to_a_task_and_not_returned_is_free_again) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto x = make_pattern<double>(pool, 10, n);
      const std::uint64_t expected = digest(x);
      EXPECT_EQ(co_await pool.submit(consume, std::move(x)), expected);
      EXPECT_EQ(pool.stats().live_segments, 0u);
    }
  });
}

TEST(arguments, an_array_lvalue_taken_by_value_is_copied_once_and_the_callers_is_untouched) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      pool.clear_shm();
      auto x = make_pattern<double>(pool, 11, n);
      const std::uint64_t expected = digest(x);
      auto [seen, back] = co_await pool.submit(own, x);
      EXPECT_EQ(seen, expected);
      EXPECT_EQ(digest(x), expected);
      EXPECT_EQ(back[n - 1], x[n - 1] + 1);
      EXPECT_NE(back.handle(), x.handle());
      EXPECT_EQ(pool.stats().live_segments, n == many ? 2u : 1u);
      EXPECT_EQ(pool.stats().cached_segments, 0u) << "there was a second copy";
      // What others see, too, must stay as it is although this name of it is given up.
      auto other_name = x;
      EXPECT_EQ(co_await pool.submit(consume, std::move(other_name)), expected);
      auto part = x.rows(1, n);
      EXPECT_EQ(co_await pool.submit(consume, std::move(part)), digest(x.rows(1, n)));
      EXPECT_EQ(digest(x), expected);
    }
  });
}

TEST(arguments, a_slice_that_is_the_only_name_of_its_memory_is_moved_at_its_offset) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    auto part = make_pattern<double>(pool, 12, many).rows(3, many - 5);
    const std::uint64_t expected = digest(part);
    const auto id = part.handle().get()->id();
    auto [seen, back] = co_await pool.submit(own, std::move(part));
    EXPECT_EQ(seen, expected);
    EXPECT_EQ(back.handle().get()->id(), id);
    EXPECT_EQ(back.byte_offset(), 3 * sizeof(double));
    EXPECT_EQ(back.size(), many - 8);
  });
}

double sum_of(array<const double, 1> x) {
  return std::accumulate(x.begin(), x.end(), 0.0);
}
array<double> doubled(array<const double> x) {
  auto y = shmpool::make_array_like(x);
  for (std::size_t i = 0; i != x.size(); ++i) y[i] = 2 * x[i];
  return y;
}

TEST(arguments, a_function_of_arrays_can_be_called_without_a_pool) {
  for (const std::size_t n : lengths) {
    auto x = shmpool::make_array<double>(n, 1.5);
    EXPECT_EQ(sum_of(doubled(x)), 3.0 * static_cast<double>(n));
    auto [seen, back] = own(x.clone());
    EXPECT_EQ(seen, digest(x));
    EXPECT_EQ(back[n - 1], 2.5);
  }
}

}  // namespace
