// Arrays of every rank, of no elements, of structs and of over-aligned types: shape and contents are the same on both
// sides, as arguments and as results.
#include "payload.hpp"

#include <algorithm>
#include <complex>
#include <tuple>

namespace {

using namespace shmpool::testing;
using asio::awaitable;
using shmpool::array;
using shmpool::process_pool;

template <class T, std::size_t Rank>
using seen_shape = std::tuple<std::array<std::size_t, Rank>, std::uint64_t>;

template <class T, std::size_t Rank>
seen_shape<T, Rank> look(array<const T, Rank> x) {
  return {x.extents(), digest(x)};
}
template <class T, std::size_t Rank>
seen_shape<T, Rank> edit(array<T, Rank>& x) {
  const seen_shape<T, Rank> seen{x.extents(), digest(x)};
  fill_pattern(x, 77);
  return seen;
}
template <class T, std::size_t Rank>
array<T, Rank> pass_on(array<T, Rank> x) {
  return x;
}
template <class T, std::size_t Rank>
array<T, Rank> make_like(array<const T, Rank> x) {
  auto made = shmpool::make_array_like(x);
  fill_pattern(made, 78);
  return made;
}
template <class T, std::size_t Rank>
bool aligned(array<const T, Rank> x) {
  return reinterpret_cast<std::uintptr_t>(x.data()) % alignof(T) == 0;
}

/// The whole table for one array: it is looked at, edited, copied, moved there and back, and answered with a new one.
template <class T, std::size_t Rank>
awaitable<void> expect_shape_kept(process_pool& pool, array<T, Rank> x) {
  fill_pattern(x, 70);
  seen_shape<T, Rank> expected{x.extents(), digest(x)};
  EXPECT_EQ(co_await pool.submit(look<T, Rank>, x), expected);
  EXPECT_TRUE(co_await pool.submit(aligned<T, Rank>, x));

  const array<T, Rank> copy = co_await pool.submit(pass_on<T, Rank>, x);
  EXPECT_EQ((seen_shape<T, Rank>{copy.extents(), digest(copy)}), expected);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(copy.data()) % alignof(T), 0u);

  EXPECT_EQ(co_await pool.submit(edit<T, Rank>, x), expected);
  const array<T, Rank> made = co_await pool.submit(make_like<T, Rank>, x);
  EXPECT_EQ(made.extents(), x.extents());
  auto model = shmpool::make_array_like(x);
  fill_pattern(model, 77);
  EXPECT_EQ(digest(x), digest(model));
  fill_pattern(model, 78);
  EXPECT_EQ(digest(made), digest(model));

  expected = {x.extents(), digest(x)};
  const array<T, Rank> moved = co_await pool.submit(pass_on<T, Rank>, std::move(x));
  EXPECT_EQ((seen_shape<T, Rank>{moved.extents(), digest(moved)}), expected);
}

TEST(shapes, ranks_one_to_five) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    co_await expect_shape_kept(pool, pool.make_array<float>(7));
    co_await expect_shape_kept(pool, pool.make_array<float>(100'003));
    co_await expect_shape_kept(pool, pool.make_array<float>(3, 5));
    co_await expect_shape_kept(pool, pool.make_array<float>(501, 211));
    co_await expect_shape_kept(pool, pool.make_array<float>(3, 1, 2));
    co_await expect_shape_kept(pool, pool.make_array<float>(41, 53, 47));
    co_await expect_shape_kept(pool, pool.make_array<float>(2, 3, 2, 1));
    co_await expect_shape_kept(pool, pool.make_array<float>(17, 1, 101, 59));
    co_await expect_shape_kept(pool, pool.make_array<float>(2, 2, 2, 2, 2));
    co_await expect_shape_kept(pool, pool.make_array<float>(11, 13, 7, 9, 10));
  });
}

TEST(shapes, the_limit_itself_rides_in_the_message_and_one_byte_more_does_not) {
  for (const std::size_t limit : {std::size_t{0}, std::size_t{1}, std::size_t{5000}}) {
    auto how = one_worker();
    how.inline_bytes = limit;
    with_pool(how, [limit](process_pool& pool) -> awaitable<void> {
      if (limit != 0) {
        auto at = pool.make_array<char>(limit);
        co_await expect_shape_kept(pool, at);
        const array<char> copy = co_await pool.submit(pass_on<char, 1>, at);
        EXPECT_FALSE(copy.handle().is_shared());
      }
      auto above = pool.make_array<char>(limit + 1);
      co_await expect_shape_kept(pool, above);
      const array<char> copy = co_await pool.submit(pass_on<char, 1>, above);
      EXPECT_TRUE(copy.handle().is_shared());
    });
  }
}

TEST(shapes, arrays_without_elements_keep_their_extents) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    co_await expect_shape_kept(pool, array<double>());
    co_await expect_shape_kept(pool, array<double, 3>());
    co_await expect_shape_kept(pool, pool.make_array<double>(0));
    co_await expect_shape_kept(pool, pool.make_array<double>(3, 0));
    co_await expect_shape_kept(pool, pool.make_array<double>(0, 5, 2));
    co_await expect_shape_kept(pool, pool.make_array<double>(1'000'000'000'000, 0, 1'000'000'000'000));
    EXPECT_EQ(pool.stats().live_segments, 0u);
    // Empty slices of memory that is not: nothing of it travels.
    auto x = pool.make_array<double>(many);
    co_await expect_shape_kept(pool, x.rows(many, many));
    co_await expect_shape_kept(pool, x.rows(17, 17));
    const std::vector<double> nothing;
    const auto size = [](std::span<const double> none) { return none.size(); };
    EXPECT_EQ(co_await pool.submit(size, nothing), 0u);
  });
}

/// A row of a structured array, with padding in the middle and at the end.
struct reading {
  std::uint8_t station;
  double value;
  float error[3];
  std::int16_t flags;
};
static_assert(sizeof(reading) > 1 + 8 + 12 + 2);

struct alignas(64) line {
  std::uint32_t words[3];
};
struct alignas(4096) page {
  std::uint64_t number;
};

TEST(shapes, elements_may_be_structs) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    co_await expect_shape_kept(pool, pool.make_array<reading>(few));
    co_await expect_shape_kept(pool, pool.make_array<reading>(many / 5));
    co_await expect_shape_kept(pool, pool.make_array<reading>(11, 13, 17));
    co_await expect_shape_kept(pool, pool.make_array<std::complex<double>>(few));
    co_await expect_shape_kept(pool, pool.make_array<std::complex<double>>(many / 10));
    co_await expect_shape_kept(pool, pool.make_array<std::array<std::uint8_t, 3>>(many));
    // A field of a record, and a slice of records at an odd offset.
    auto x = make_pattern<reading>(pool, 1, many / 5);
    x[1001].value = 2.5;
    const auto value = [](array<const reading> rows, std::size_t i) { return rows[i].value; };
    EXPECT_EQ(co_await pool.submit(value, x, std::size_t{1001}), 2.5);
    EXPECT_EQ(co_await pool.submit(value, x.rows(1001, 20'002), std::size_t{0}), 2.5);
    co_await expect_shape_kept(pool, x.rows(1, 20'002));
  });
}

TEST(shapes, every_arithmetic_type_is_an_element) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    const auto both = [&pool]<class T>(T) -> awaitable<void> {
      co_await expect_shape_kept(pool, pool.make_array<T>(few));
      co_await expect_shape_kept(pool, pool.make_array<T>(many / 10));
    };
    co_await both(std::int8_t());
    co_await both(std::uint16_t());
    co_await both(std::int32_t());
    co_await both(std::uint64_t());
    co_await both(float());
    co_await both(char32_t());
    co_await both(std::byte());
    auto flags = pool.make_array<bool>(std::size_t{many}, true);
    flags[5] = false;
    const auto count = [](array<const bool> x) { return std::count(x.begin(), x.end(), true); };
    EXPECT_EQ(co_await pool.submit(count, flags), static_cast<std::ptrdiff_t>(many - 1));
    EXPECT_EQ(co_await pool.submit(count, flags.rows(0, few)), static_cast<std::ptrdiff_t>(few - 1));
  });
}

TEST(shapes, elements_may_be_over_aligned) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    co_await expect_shape_kept(pool, pool.make_array<line>(few));
    co_await expect_shape_kept(pool, pool.make_array<line>(many / 100));
    co_await expect_shape_kept(pool, pool.make_array<page>(3));
    co_await expect_shape_kept(pool, pool.make_array<page>(5, 40));
    co_await expect_shape_kept(pool, pool.make_array<page>(20).rows(7, 20));
    co_await expect_shape_kept(pool, pool.make_array<line>(20).rows(1, 4));
    // From a vector, whose elements are as aligned in the worker as they were here.
    std::vector<line> vector(many / 100);
    fill_pattern(vector);
    const auto check = [](std::span<const line> x) {
      return std::pair(reinterpret_cast<std::uintptr_t>(x.data()) % alignof(line), digest(x));
    };
    EXPECT_EQ(co_await pool.submit(check, vector), (std::pair{std::size_t{0}, digest(vector)}));
    vector.resize(3);
    EXPECT_EQ(co_await pool.submit(check, vector), (std::pair{std::size_t{0}, digest(vector)}));
  });
}

}  // namespace
