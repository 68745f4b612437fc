// array<T>& and std::span<T>: the worker edits the caller's array in place. And what the pool does about lends that
// overlap: two tasks in flight may share what both only read, and nothing else.
#include "gate.hpp"
#include "payload.hpp"

#include <asio/experimental/awaitable_operators.hpp>

#include <algorithm>
#include <csignal>
#include <numeric>
#include <optional>
#include <stdexcept>

namespace {

using namespace shmpool::testing;
using namespace asio::experimental::awaitable_operators;
using asio::awaitable;
using asio::use_awaitable;
using shmpool::array;
using shmpool::errc;
using shmpool::process_pool;

std::uint64_t edit(array<double>& x) {
  const std::uint64_t seen = digest(x);
  fill_pattern(x, 21);
  return seen;
}
std::uint64_t edit_span(std::span<double> x) {
  const std::uint64_t seen = digest(x);
  fill_pattern(x, 21);
  return seen;
}
std::uint64_t edit_table(array<double, 2>& x) {
  const std::uint64_t seen = digest(x);
  fill_pattern(x, 21);
  return seen;
}
std::uint64_t read(array<const double> x) {
  return digest(x);
}

std::uint64_t digest_of_edited(std::size_t n) {
  std::vector<double> model(n);
  fill_pattern(model, 21);
  return digest(model);
}

TEST(arrays_in_place, the_caller_sees_the_edits_in_the_same_memory) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto x = make_pattern<double>(pool, 20, n);
      const double* const where = x.data();
      const std::uint64_t before = digest(x);
      EXPECT_EQ(co_await pool.submit(edit, x), before);
      EXPECT_EQ(digest(x), digest_of_edited(n));

      fill_pattern(x, 20);
      EXPECT_EQ(co_await pool.submit(edit_span, x), before);
      EXPECT_EQ(digest(x), digest_of_edited(n));

      auto table = x.reshape(n / 5, 5);
      fill_pattern(x, 20);
      EXPECT_EQ(co_await pool.submit(edit_table, table), before);
      EXPECT_EQ(digest(x), digest_of_edited(n));
      EXPECT_EQ(co_await pool.submit(edit_span, table), digest_of_edited(n));

      EXPECT_EQ(x.data(), where);
      EXPECT_EQ(pool.stats().live_segments, 1u);
      EXPECT_EQ(x.handle().use_count(), 2);
    }
  });
}

TEST(arrays_in_place, a_slice_is_edited_and_its_neighbours_are_not) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto x = make_pattern<double>(pool, 22, n);
      auto model = x.clone();
      auto slice = x.rows(3, n - 4);
      EXPECT_EQ(co_await pool.submit(edit, slice), digest(model.rows(3, n - 4)));
      fill_pattern(model.rows(3, n - 4), 21);
      EXPECT_EQ(digest(x), digest(model));

      auto table = x.reshape(n / 2, 2);
      auto row = table[n / 4];
      co_await pool.submit([](std::span<double> two) { two[1] = 5; }, row);
      model[n / 4 * 2 + 1] = 5;
      EXPECT_EQ(digest(x), digest(model));
    }
  });
}

array<double> kept;
void keep(array<double>& x) {
  kept = x;
}
void write_kept(std::size_t i, double value) {
  kept[i] = value;
}
void drop_kept() {
  kept = {};
}

TEST(arrays_in_place, an_array_that_is_lent_for_writing_is_the_callers_own_memory) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto x = pool.make_array<double>(n, 0.0);
      co_await pool.submit(keep, x);
      co_await pool.submit(write_kept, n - 1, 17.0);  // is not given the array: it can only be the same memory
      EXPECT_EQ(x[n - 1], 17);
      EXPECT_EQ(pool.stats().live_segments, 1u);
      co_await pool.submit(drop_kept);
    }
  });
}

TEST(arrays_in_place, memory_that_is_not_shared_is_refused_and_says_what_to_do) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto x = shmpool::make_array<double>(n, 1.0);
      std::string why;
      try {
        co_await pool.submit(edit, x);
      } catch (const std::invalid_argument& error) {
        why = error.what();
      }
      EXPECT_NE(why.find("pool.make_array"), std::string::npos) << why;
      EXPECT_EQ(x[n - 1], 1);
    }
    auto wrong = pool.make_array<double>(4);
    const auto exactly_three = [](std::span<double, 3> x) { x[2] = 1; };
    bool refused = false;
    try {
      co_await pool.submit(exactly_three, wrong);
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    EXPECT_TRUE(refused);
    auto right = wrong.rows(0, 3);
    co_await pool.submit(exactly_three, right);
    EXPECT_EQ(wrong[2], 1);
  });
}

TEST(arrays_in_place, what_a_task_wrote_before_it_failed_is_there) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const bool crash : {false, true}) {
      auto x = pool.make_array<double>(std::size_t{many}, 1.0);
      bool failed = false;
      try {
        co_await pool.submit(
            [](array<double>& y, bool dies) {
              y[7] = 2;
              if (dies) ::raise(SIGKILL);
              throw std::runtime_error("no");
            },
            x, crash);
      } catch (const std::exception&) {
        failed = true;
      }
      EXPECT_TRUE(failed);
      EXPECT_EQ(x[7], 2);
      EXPECT_EQ(x[8], 1);
      EXPECT_EQ(x.handle().use_count(), 1);
      EXPECT_EQ(co_await pool.submit(read, x), digest(x));
    }
  });
}

// ---- Lends that overlap.

/// The error of an operation that must fail with a code.
template <class Operation>
awaitable<std::error_code> code_of(Operation operation) {
  try {
    co_await operation();
  } catch (const std::system_error& error) {
    co_return error.code();
  }
  co_return std::error_code();
}

TEST(arrays_in_place, one_call_cannot_have_an_array_for_writing_twice) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto x = make_pattern<double>(pool, 23, n);
      const auto write_both = [](array<double>& a, array<double>& b) { a[0] = b[0] = 1; };
      const auto write_one = [](array<double>& a, array<const double> b) { a[0] = b[0]; };
      const auto busy = make_error_code(errc::array_busy);
      EXPECT_EQ(co_await code_of([&] { return pool.submit(write_both, x, x); }), busy);
      EXPECT_EQ(co_await code_of([&] { return pool.submit(write_one, x, x); }), busy);
      // Slices that share one element.
      auto left = x.rows(0, n / 2 + 1), right = x.rows(n / 2, n);
      EXPECT_EQ(co_await code_of([&] { return pool.submit(write_both, left, right); }), busy);
      EXPECT_EQ(co_await code_of([&] { return pool.submit(write_one, left, right); }), busy);
      // Slices that share none.
      left = x.rows(0, n / 2);
      co_await pool.submit(write_both, left, right);
      EXPECT_EQ(x[0], 1);
      EXPECT_EQ(x[n / 2], 1);
      x[n / 2] = 9;
      co_await pool.submit(write_one, left, right);
      EXPECT_EQ(x[0], 9);
      EXPECT_EQ(x.handle().use_count(), 3);
    }
  });
}

TEST(arrays_in_place, two_tasks_in_flight_cannot_race_on_an_array) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto x = make_pattern<double>(pool, 24, n);
      const auto busy = make_error_code(errc::array_busy);

      // While a task writes, nobody else may read or write, by any row of the table.
      gate writing(pool);
      std::optional<std::exception_ptr> written;
      const auto done = [](std::optional<std::exception_ptr>& what) {
        return [&what](std::exception_ptr e) { what = e; };
      };
      const auto write_slowly = [](array<int>& flags, array<double>& y) {
        gate::pass(flags, false);
        fill_pattern(y, 21);
      };
      pool.submit(write_slowly, writing.argument(), x, done(written));
      EXPECT_EQ(co_await code_of([&] { return pool.submit(edit, x); }), busy);
      EXPECT_EQ(co_await code_of([&] { return pool.submit(edit_span, x); }), busy);
      EXPECT_EQ(co_await code_of([&] { return pool.submit(read, x); }), busy);
      EXPECT_EQ(co_await code_of([&] { return pool.submit(read, x.rows(n - 1, n)); }), busy);
      auto across = x.rows(n / 4, n / 2);
      EXPECT_EQ(co_await code_of([&] { return pool.submit(edit, across); }), busy);
      const auto by_value = [](array<double> y) { return y.size(); };
      EXPECT_EQ(co_await code_of([&] { return pool.submit(by_value, x); }), busy);
      const auto of_vector = [](const std::vector<double>& y) { return y.size(); };
      EXPECT_EQ(co_await code_of([&] { return pool.submit(of_vector, x); }), busy);
      EXPECT_FALSE(written);
      writing.open();
      while (!written) co_await asio::post(use_awaitable);
      EXPECT_FALSE(*written);
      EXPECT_EQ(co_await pool.submit(read, x), digest_of_edited(n));

      // While tasks read what is lent to them, others may read and nobody may write.
      if (n == many) {
        gate reading(pool);
        std::optional<std::exception_ptr> looked;
        const auto read_slowly = [](array<int>& flags, array<const double>) { gate::pass(flags, false); };
        pool.submit(read_slowly, reading.argument(), x, done(looked));
        EXPECT_EQ(co_await pool.submit(read, x), digest(x));
        EXPECT_EQ(co_await code_of([&] { return pool.submit(edit, x); }), busy);
        EXPECT_FALSE(looked);
        reading.open();
        while (!looked) co_await asio::post(use_awaitable);
        EXPECT_FALSE(*looked);
      }
      co_await pool.submit(edit, x);
    }
  });
}

TEST(arrays_in_place, disjoint_rows_may_be_in_flight_in_two_tasks_at_once) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto x = make_pattern<double>(pool, 25, n / 2, 2);
      const auto fill = [](array<double, 2>& rows, double value) { std::fill(rows.begin(), rows.end(), value); };
      const std::size_t cut = n / 4 + 1;
      auto upper = x.rows(0, cut), lower = x.rows(cut, n / 2);
      co_await (pool.submit(fill, upper, 1.0, use_awaitable) && pool.submit(fill, lower, 2.0, use_awaitable));
      EXPECT_EQ(std::count(x.begin(), x.end(), 1.0), static_cast<std::ptrdiff_t>(2 * cut));
      EXPECT_EQ(std::count(x.begin(), x.end(), 2.0), static_cast<std::ptrdiff_t>(n - 2 * cut));

      // One reads above while the other writes below.
      const auto sum = [](std::span<const double> rows) { return std::accumulate(rows.begin(), rows.end(), 0.0); };
      const double total =
          co_await (pool.submit(sum, upper, use_awaitable) && pool.submit(fill, lower, 3.0, use_awaitable));
      EXPECT_EQ(total, static_cast<double>(2 * cut));
      EXPECT_EQ(x(n / 2 - 1, 1), 3.0);
    }
  });
}

}  // namespace
