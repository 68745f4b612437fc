// The parameter table, but for the rows that write in place: arrays that are read, moved and copied, by themselves and
// inside of other values, what the worker sees of them, how much of it is the caller's own memory, and what it cannot
// do to it; and values. Each on both sides of the inline threshold.
#include "payload.hpp"

#include <chrono>
#include <csignal>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <variant>

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

TEST(arguments, every_reading_parameter_sees_the_elements_of_an_array_and_of_a_vector) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto x = make_pattern<double>(pool, 1, n);
      const std::uint64_t expected = digest(x);
      co_await expect_read(pool, x, expected);
      array<const double> constant = x;
      co_await expect_read(pool, constant, expected);
      auto unshared = x.clone();
      co_await expect_read(pool, unshared, expected);
      std::vector<double> vector(x.begin(), x.end());
      co_await expect_read(pool, vector, expected);
      EXPECT_EQ(digest(x), expected);
      EXPECT_EQ(x.handle().use_count(), 2);
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

template <class T>
T echo(T value) {
  return value;
}

TEST(arguments, the_inline_limit_itself_rides_in_the_message_and_one_byte_more_does_not) {
  for (const std::size_t limit : {std::size_t{0}, std::size_t{1}, std::size_t{5000}}) {
    auto how = one_worker();
    how.inline_bytes = limit;
    with_pool(how, [limit](process_pool& pool) -> awaitable<void> {
      for (const std::size_t size : {limit, limit + 1}) {
        if (size == 0) continue;
        auto x = make_pattern<char>(pool, 13, size);
        const array<char> copy = co_await pool.submit(echo<array<char>>, x);
        EXPECT_EQ(digest(copy), digest(x));
        EXPECT_EQ(copy.handle().is_shared(), size > limit);
      }
    });
  }
}

struct alignas(4096) page {
  std::uint64_t number;
};

TEST(arguments, over_aligned_elements_are_aligned_in_the_worker_and_where_they_come_back) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    const auto misaligned = [](array<const page> x) { return reinterpret_cast<std::uintptr_t>(x.data()) % 4096; };
    for (const std::size_t n : {std::size_t{1}, std::size_t{200}}) {
      auto x = make_pattern<page>(pool, 14, n);
      EXPECT_EQ(co_await pool.submit(misaligned, x), 0u);
      const array<page> copy = co_await pool.submit(echo<array<page>>, x);
      EXPECT_EQ(misaligned(copy), 0u);
      EXPECT_EQ(digest(copy), digest(x));
    }
  });
}

// ---- Arrays inside of other values: const ones are lent, others are given.

using dictionary = std::map<std::string, array<double>>;
using const_dictionary = std::map<std::string, array<const double>>;

const_dictionary kept;
void keep(const_dictionary all) {
  kept = std::move(all);
}
double kept_first(const std::string& name) {
  return kept.at(name)[0];
}
void drop_kept() {
  kept.clear();
}

TEST(arguments, a_nested_array_that_is_lent_is_the_callers_own_memory) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    auto x = make_pattern<double>(pool, 41, many);
    const_dictionary all;
    all["x"] = x;
    co_await pool.submit(keep, all);
    x[0] = 42;
    EXPECT_EQ(co_await pool.submit(kept_first, "x"), 42);
    EXPECT_EQ(pool.stats().live_segments, 1u);
    co_await pool.submit(drop_kept);
  });
}

dictionary square(dictionary all) {
  for (auto& [name, values] : all) {
    for (double& each : values) each *= each;
  }
  all["new"] = shmpool::make_array<double>(std::size_t{50'000}, 7.0);
  all["none"] = {};
  return all;
}

TEST(arguments, a_dictionary_of_arrays_is_moved_there_and_back) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      pool.clear_shm();
      dictionary all;
      all["a"] = pool.make_array<double>(n, 3.0);
      all["b"] = pool.make_array<double>(n + 1, 4.0);
      const auto id = all["a"].handle().get()->id();
      dictionary back = co_await pool.submit(square, std::move(all));
      EXPECT_EQ(back.size(), 4u);
      EXPECT_EQ(back["a"][n - 1], 9);
      EXPECT_EQ(back["b"][n], 16);
      EXPECT_EQ(back["new"].size(), 50'000u);
      EXPECT_EQ(back["new"][49'999], 7);
      EXPECT_TRUE(back["none"].empty());
      if (n == many) {
        EXPECT_EQ(back["a"].handle().get()->id(), id);
        EXPECT_EQ(pool.stats().live_segments, 3u);
        EXPECT_EQ(pool.stats().cached_segments, 0u) << "an array was copied";
      }
    }
  });
}

TEST(arguments, there_may_be_more_nested_arrays_in_one_call_than_a_small_list_holds) {
  with_pool(with_a_file_for_each_array(), [](process_pool& pool) -> awaitable<void> {
    std::vector<array<const double>> all;
    std::uint64_t expected = 0;
    for (std::size_t i = 0; i != 200; ++i) {
      all.push_back(make_pattern<double>(pool, 50 + i, 3000));
      expected = std::rotl(expected, 1) ^ digest(all.back());
    }
    const auto fold = [](const std::vector<array<const double>>& each) {
      std::uint64_t hash = 0;
      for (const auto& x : each) hash = std::rotl(hash, 1) ^ digest(x);
      return std::pair(hash, each);
    };
    const auto [hash, back] = co_await pool.submit(fold, all);
    EXPECT_EQ(hash, expected);
    for (std::size_t i = 0; i != 200; ++i) EXPECT_EQ(back[i].handle(), all[i].handle());
    EXPECT_EQ(pool.stats().live_segments, 200u);
  });
}

// ---- Values of all other kinds. How each of them travels is told by the tests in tests/codec.

enum class colour : std::uint8_t { red = 3, green = 200 };

/// Has padding, which is nobody's business.
struct sample {
  char tag;
  double value;
  bool valid;
  friend bool operator==(const sample&, const sample&) = default;
};

struct named {
  std::string name;
  std::vector<sample> samples;
  std::map<int, std::string> notes;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(name, samples, notes);
  }
  friend bool operator==(const named&, const named&) = default;
};

/// Larger than the inline limit, and trivially copyable.
using bulky = std::array<std::uint64_t, 40'000>;

template <class T>
awaitable<void> expect_echo(process_pool& pool, T value) {
  EXPECT_EQ(co_await pool.submit(echo<T>, value), value);
}

TEST(arguments, a_value_of_each_kind_goes_there_and_back) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    const sample one{'a', 2.5, true};
    co_await expect_echo(pool, true);
    co_await expect_echo(pool, std::numeric_limits<std::uint64_t>::max());
    co_await expect_echo(pool, std::numeric_limits<double>::denorm_min());
    co_await expect_echo(pool, colour::green);
    co_await expect_echo(pool, std::chrono::system_clock::now());
    co_await expect_echo(pool, one);
    co_await expect_echo(pool, std::tuple<bool, sample, std::string>(true, one, "x"));
    co_await expect_echo(pool, std::optional<std::string>());
    co_await expect_echo(pool, std::variant<int, std::string, sample>(one));
    co_await expect_echo(pool, std::vector<bool>(1001, true));
    auto number = std::make_unique<int>(4);
    number = co_await pool.submit(echo<std::unique_ptr<int>>, std::move(number));
    EXPECT_EQ(*number, 4);
    for (const std::size_t n : lengths) {
      const std::string text(n, 't');
      co_await expect_echo(pool, text);
      co_await expect_echo(pool, std::vector<std::string>(3, text));
      named mine{text, std::vector<sample>(n / 10, one), {}};
      mine.notes[1] = "one";
      co_await expect_echo(pool, mine);
    }
    auto value = std::make_unique<bulky>();
    fill_pattern(*value, 31);
    co_await expect_echo(pool, *value);
    EXPECT_EQ(pool.stats().live_segments, 0u) << "large values go through shared memory and leave it";
    EXPECT_GE(pool.stats().cached_segments, 1u);
  });
}

std::string all_kinds(bool a, const char b, double c, colour d, std::string_view e, std::vector<std::string> f,
                      std::span<const float> g, array<const double, 2> h, array<std::int32_t>& i,
                      std::optional<sample> j) {
  std::string seen;
  seen += std::to_string(a) + b + std::to_string(static_cast<int>(c)) + std::to_string(static_cast<int>(d));
  seen.append(e).append(f.at(1)) += std::to_string(static_cast<int>(g[2])) + std::to_string(h.extent(1));
  seen += std::to_string(i[1]) + (j ? j->tag : '-');
  i[1] = 99;
  return seen;
}

TEST(arguments, ten_arguments_of_mixed_kinds) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      const std::vector<std::string> f(2, "f");
      std::vector<float> g(n, 6.0f);
      auto h = pool.make_array<double>(n / 5, 5);
      auto i = pool.make_array<std::int32_t>(n, shmpool::fill(8));
      const sample j{'j', 0, false};
      EXPECT_EQ(co_await pool.submit(all_kinds, true, 'b', 3.5, colour::red, "e", f, g, h, i, j), "1b33ef658j");
      EXPECT_EQ(i[1], 99);
      EXPECT_EQ(co_await pool.submit(all_kinds, false, 'b', 3.5, colour::red, "e", f, g, h, i, std::nullopt),
                "0b33ef6599-");
    }
  });
}

}  // namespace
