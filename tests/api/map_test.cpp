// map(): results in the order of the range, whatever the range is; small items travel together; the first exception
// ends it and says where it was.
#include "gate.hpp"
#include "payload.hpp"

#include <algorithm>
#include <csignal>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <ranges>
#include <sstream>
#include <stdexcept>

namespace {

using namespace shmpool::testing;
using asio::awaitable;
using shmpool::array;
using shmpool::process_pool;

int square(int x) {
  return x * x;
}

std::vector<int> squares(int n) {
  std::vector<int> all;
  for (int i = 0; i != n; ++i) all.push_back(i * i);
  return all;
}

std::vector<int> numbers(int n) {
  std::vector<int> all(static_cast<std::size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

TEST(map, gives_the_results_in_the_order_of_the_range) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const int n : {0, 1, 2, 7, 1000}) {
      const std::vector<int> in = numbers(n);
      EXPECT_EQ(co_await pool.map(square, in), squares(n));
    }
  });
}

TEST(map, sends_ten_thousand_tiny_items_in_few_tasks) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    const std::vector<int> in = numbers(10'000);
    EXPECT_EQ(co_await pool.map(square, in), squares(10'000));
    EXPECT_LT(pool.stats().submitted, 1'000u);
  });
}

TEST(map, runs_over_views_and_temporaries_and_ranges_that_are_read_once) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    EXPECT_EQ(co_await pool.map(square, std::views::iota(0, 100)), squares(100));
    const std::vector<int> in = numbers(50);
    auto even = in | std::views::filter([](int x) { return x % 2 == 0; });
    const auto shifted = [](int x) { return x / 2; };
    EXPECT_EQ(co_await pool.map(shifted, std::move(even)), numbers(25));
    EXPECT_EQ(co_await pool.map(square, in | std::views::transform([](int x) { return x; })), squares(50));
    EXPECT_EQ(co_await pool.map(square, numbers(20)), squares(20));  // the range moves into the operation
    std::list<int> list(3, 2);
    EXPECT_EQ(co_await pool.map(square, std::move(list)), std::vector<int>(3, 4));
    std::istringstream text("0 1 2 3 4");
    EXPECT_EQ(co_await pool.map(square, std::views::istream<int>(text)), squares(5));
    const std::vector<bool> bits(10, true);
    EXPECT_EQ(co_await pool.map([](bool x) { return !x; }, bits), std::vector<bool>(10, false));
    std::map<int, std::string> table;
    table[1] = "one";
    table[2] = "two";
    const auto join = [](const std::pair<const int, std::string>& x) { return x.second + std::to_string(x.first); };
    const std::vector<std::string> joined = co_await pool.map(join, table);
    EXPECT_EQ(joined.at(1), "two2");
    const std::vector<std::string> values =
        co_await pool.map([](std::string x) { return x; }, std::views::values(table));
    EXPECT_EQ(values.at(0), "one");
  });
}

array<double> doubled(array<const double> x) {
  auto y = shmpool::make_array_like(x);
  for (std::size_t i = 0; i != x.size(); ++i) y[i] = 2 * x[i];
  return y;
}

TEST(map, runs_over_arrays_without_copying_them) {
  with_pool(with_a_file_for_each_array(), [](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : {few, many / 10}) {
      std::vector<array<double>> in;
      for (std::uint64_t seed = 0; seed != 12; ++seed) in.push_back(make_pattern<double>(pool, seed, n));
      const std::vector<array<double>> out = co_await pool.map(doubled, in);
      EXPECT_EQ(out.size(), 12u);
      for (std::size_t i = 0; i != out.size(); ++i) EXPECT_EQ(digest(out[i]), digest(doubled(in[i]))) << i;
      EXPECT_EQ(pool.stats().live_segments, n == few ? 12u : 24u);

      // In place, row by row: slices of one array in many tasks at once.
      auto table = make_pattern<double>(pool, 80, 40, n);
      std::vector<array<double>> rows;
      for (std::size_t i = 0; i != 40; ++i) rows.push_back(table[i]);
      co_await pool.map([](array<double>& row) { row[0] = row[1]; }, rows);
      for (std::size_t i = 0; i != 40; ++i) EXPECT_EQ(table(i, 0), table(i, 1)) << i;

      // The same array for every element, and vectors that are not in shared memory.
      const std::vector<array<double>> same(30, in[0]);
      for (double sum : co_await pool.map([](std::span<const double> x) { return x[1]; }, same))
        EXPECT_EQ(sum, in[0][1]);
      std::vector<std::vector<double>> vectors(9, std::vector<double>(n, 0.5));
      vectors[8][0] = 7;
      EXPECT_EQ((co_await pool.map([](std::span<const double> x) { return x[0]; }, vectors))[8], 7);
    }
  });
}

TEST(map, moves_the_elements_of_a_range_of_rvalues) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    std::vector<array<double>> in;
    for (std::uint64_t seed = 0; seed != 4; ++seed) in.push_back(make_pattern<double>(pool, seed, many / 10));
    const auto first = in[0].handle().get()->id();
    auto moved = std::ranges::subrange(std::move_iterator(in.begin()), std::move_iterator(in.end()));
    const auto out = co_await pool.map([](array<double> x) { return x; }, moved);
    EXPECT_EQ(out[0].handle().get()->id(), first);
    EXPECT_EQ(pool.stats().live_segments, 4u);

    std::vector<std::unique_ptr<int>> pointers;
    for (int i = 0; i != 10; ++i) pointers.push_back(std::make_unique<int>(i));
    const auto next = [](std::unique_ptr<int> x) {
      ++*x;
      return x;
    };
    auto movable = std::ranges::subrange(std::move_iterator(pointers.begin()), std::move_iterator(pointers.end()));
    const auto back = co_await pool.map(next, movable);
    for (int i = 0; i != 10; ++i) EXPECT_EQ(*back[static_cast<std::size_t>(i)], i + 1);
  });
}

TEST(map, large_results_of_one_chunk_do_not_disturb_each_other) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    co_await pool.map(square, std::views::iota(0, 1000));
    const auto make = [](std::uint64_t seed) {
      auto x = shmpool::make_array<double>(std::size_t{3000});
      fill_pattern(x, seed);
      return x;
    };
    std::vector<std::uint64_t> seeds(300);
    std::iota(seeds.begin(), seeds.end(), 0);
    const auto out = co_await pool.map(make, seeds);
    for (const std::uint64_t seed : seeds) EXPECT_EQ(digest(out[seed]), digest(make(seed))) << seed;
  });
}

TEST(map, of_a_function_that_returns_nothing_gives_nothing) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    static_assert(std::is_void_v<decltype(pool.map([](int) {}, std::vector<int>()).await_resume())>);
    co_await pool.map([](int) {}, numbers(1000));
    EXPECT_EQ(pool.stats().failed, 0u);
  });
}

TEST(map, uses_every_worker) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    // Neither element ends before the other has begun.
    gate first(pool), second(pool);
    std::vector<array<int>> gates;
    gates.push_back(first.argument());
    gates.push_back(second.argument());
    bool done = false;
    pool.map([](array<int>& flags) { gate::pass(flags, false); }, gates,
             [&](std::exception_ptr error) {
               EXPECT_FALSE(error);
               done = true;
             });
    co_await entered(first);
    co_await entered(second);
    EXPECT_FALSE(done);
    first.open();
    second.open();
    while (!done) co_await asio::post(asio::use_awaitable);
  });
}

// ---- Failures.

int positive(int x) {
  if (x < 0) throw std::invalid_argument("negative: " + std::to_string(x));
  return x;
}

TEST(map, ends_with_the_first_exception_which_says_at_which_element) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t bad : {std::size_t{0}, std::size_t{1}, std::size_t{777}, std::size_t{4999}}) {
      std::vector<int> in = numbers(5000);
      in[bad] = -5;
      std::optional<std::size_t> element;
      std::string text;
      try {
        co_await pool.map(positive, in);
      } catch (const std::invalid_argument& error) {
        text = error.what();
        const auto* remote = dynamic_cast<const shmpool::remote_error*>(&error);
        if (remote) element = remote->element();
      }
      EXPECT_EQ(text, "negative: -5");
      EXPECT_EQ(element, bad);
      EXPECT_EQ(co_await pool.submit(square, 3), 9);
    }
  });
}

TEST(map, of_several_that_throw_the_first_in_the_chunk_is_told) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    std::vector<int> in(5000, -1);
    std::fill(in.begin(), in.begin() + 3, 1);
    std::optional<std::size_t> element;
    try {
      co_await pool.map(positive, in);
    } catch (const shmpool::remote_error& error) {
      element = error.element();
    }
    EXPECT_EQ(element, 3u);
    EXPECT_LT(pool.stats().submitted, 50u) << "it went on";
  });
}

TEST(map, loses_a_worker_as_submit_does) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    int signal = 0;
    try {
      co_await pool.map(
          [](int x) {
            if (x == 17) ::raise(SIGKILL);
            return x;
          },
          numbers(100));
    } catch (const shmpool::worker_lost& lost) {
      signal = lost.signal();
    }
    EXPECT_EQ(signal, SIGKILL);
    EXPECT_EQ(co_await pool.map(square, numbers(100)), squares(100));
  });
}

TEST(map, does_not_lend_an_array_for_writing_twice) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      const std::vector<array<double>> same(5, pool.make_array<double>(n, 1.0));
      std::vector<array<double>> in = same;
      std::error_code code;
      try {
        co_await pool.map([](array<double>& x) { x[0] += 1; }, in);
      } catch (const std::system_error& error) {
        code = error.code();
      }
      EXPECT_EQ(code, make_error_code(shmpool::errc::array_busy));
      EXPECT_EQ(in[0][0], 2) << "what was submitted before has run, once";
    }
  });
}

TEST(map, a_range_that_throws_ends_it) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    const std::vector<int> in = numbers(100);
    std::string text;
    const auto source = in | std::views::transform([](int x) {
                          if (x == 60) throw std::out_of_range("the range's own");
                          return x;
                        });
    try {
      co_await pool.map(square, source);
    } catch (const std::out_of_range& error) {
      text = error.what();
    }
    EXPECT_EQ(text, "the range's own");
    // One that throws when it is asked whether there is more.
    text.clear();
    auto fussy = in | std::views::filter([](int x) {
                   if (x == 60) throw std::out_of_range("the filter's own");
                   return true;
                 });
    try {
      co_await pool.map(square, std::move(fussy));
    } catch (const std::out_of_range& error) {
      text = error.what();
    }
    EXPECT_EQ(text, "the filter's own");
  });
}

}  // namespace
