// Arrays of one pool in tasks of another: as good as the other's own, also after their pool is gone.
#include "payload.hpp"

#include <optional>
#include <tuple>

namespace {

using namespace shmpool::testing;
using asio::awaitable;
using shmpool::array;
using shmpool::process_pool;

std::uint64_t read(array<const double> x) {
  return digest(x);
}
void edit(array<double>& x) {
  fill_pattern(x, 101);
}
array<double> pass_on(array<double> x) {
  return x;
}
array<double> make(std::size_t n, std::uint64_t seed) {
  auto x = shmpool::make_array<double>(n);
  fill_pattern(x, seed);
  return x;
}

std::uint64_t digest_of(std::size_t n, std::uint64_t seed) {
  return digest(make(n, seed));
}

/// Every row of the table, with an array of another pool in a task of `pool`; returns the array.
awaitable<array<double>> expect_usable(process_pool& pool, array<double> x) {
  const std::size_t n = x.size();
  const auto id = x.handle().get()->id();
  fill_pattern(x, 100);
  EXPECT_EQ(co_await pool.submit(read, x), digest_of(n, 100));
  EXPECT_EQ(co_await pool.submit(read, x.rows(1, n)), digest(x.rows(1, n)));
  co_await pool.submit(edit, x);
  EXPECT_EQ(digest(x), digest_of(n, 101));
  array<double> copy = co_await pool.submit(pass_on, x);
  EXPECT_EQ(digest(copy), digest(x));
  EXPECT_NE(copy.handle(), x.handle());
  if (n == many) {  // a small one would come back in private memory
    x = co_await pool.submit(pass_on, std::move(x));
    EXPECT_EQ(digest(x), digest_of(n, 101));
    EXPECT_EQ(x.handle().get()->id(), id) << "it was copied";
    const auto slice = [](array<const double> y) { return y.rows(2, y.size()); };
    const array<const double> part = co_await pool.submit(slice, x);
    EXPECT_EQ(part.data(), x.data() + 2);
  }
  co_return x;
}

class two_pools : public ::testing::TestWithParam<shmpool::backing> {
 protected:
  shmpool::pool_options how() const {
    auto result = options();
    result.backing = GetParam();
    return result;
  }
  asio::io_context io;
};

TEST_P(two_pools, arrays_of_one_are_used_by_the_other) {
  process_pool a(io, how()), b(io, how());
  run(io, [](process_pool& first, process_pool& second) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto x = co_await expect_usable(second, first.make_array<double>(n));
      x = co_await expect_usable(first, std::move(x));
      array<double> result = co_await first.submit(make, n, 1u);
      if (!result.handle().is_shared())
        continue;  // small ones come as private memory, which cannot be lent for writing
      result = co_await expect_usable(second, std::move(result));
      co_await expect_usable(first, std::move(result));
    }
    co_await first.shutdown();
    co_await second.shutdown();
    EXPECT_EQ(first.stats().live_segments, 0u);
    EXPECT_EQ(second.stats().live_segments, 0u);
  }(a, b));
}

TEST_P(two_pools, an_array_outlives_its_pool_and_is_lent_to_another) {
  for (const std::size_t n : lengths) {
    std::optional<process_pool> a(std::in_place, io, how());
    process_pool b(io, how());
    auto x = make_pattern<double>(*a, 100, n);
    // Known to a worker of b from before, and unknown.
    EXPECT_EQ(run(io,
                  [](process_pool& pool, array<double> y) -> awaitable<std::uint64_t> {
                    co_return co_await pool.submit(read, y);
                  }(b, x)),
              digest_of(n, 100));
    auto unknown = make_pattern<double>(*a, 100, n);
    auto result = run(io, [](process_pool& pool, std::size_t size) -> awaitable<array<double>> {
      co_return co_await pool.submit(make, size, 100u);
    }(*a, n));
    a.reset();
    EXPECT_EQ(digest(x), digest_of(n, 100));
    for (array<double>* each : {&x, &unknown, &result}) {
      if (!each->handle().is_shared()) continue;  // a small result never was
      run(io, [](process_pool& pool, array<double> y) -> awaitable<void> {
        co_await expect_usable(pool, std::move(y));
      }(b, std::move(*each)));
    }
    run(io, [](process_pool& pool) -> awaitable<void> { co_await pool.shutdown(); }(b));
  }
}

TEST_P(two_pools, a_pool_that_goes_while_its_array_is_lent_to_another_takes_nothing_away) {
  std::optional<process_pool> a(std::in_place, io, how());
  process_pool b(io, how());
  auto x = make_pattern<double>(*a, 100, many);
  std::optional<std::uint64_t> seen;
  b.submit(read, x, [&](std::exception_ptr error, std::uint64_t hash) {
    EXPECT_FALSE(error);
    seen = hash;
  });
  x = {};
  a.reset();
  run(io, [](process_pool& pool) -> awaitable<void> { co_await pool.shutdown(); }(b));
  EXPECT_EQ(seen, digest_of(many, 100));
}

std::string name_of(const ::testing::TestParamInfo<shmpool::backing>& info) {
  return info.param == shmpool::backing::memfd ? "memfd" : "posix";
}
INSTANTIATE_TEST_SUITE_P(backings, two_pools, ::testing::Values(shmpool::backing::posix, shmpool::backing::memfd),
                         name_of);

}  // namespace
