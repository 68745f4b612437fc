// Arguments that are no arrays: scalars, strings, views of strings, containers and structs, from none to ten of them.
#include "payload.hpp"

#include <chrono>
#include <complex>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <tuple>
#include <unordered_map>
#include <variant>

namespace {

using namespace shmpool::testing;
using asio::awaitable;
using shmpool::array;
using shmpool::process_pool;

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
struct bulky {
  std::array<std::uint64_t, 40'000> words;
};

template <class T>
T echo(T value) {
  return value;
}
template <class T>
T echo_reference(const T& value) {
  return value;
}
template <class T>
T echo_rvalue(T&& value) {
  return std::move(value);
}

template <class T>
awaitable<void> expect_echo(process_pool& pool, T value) {
  const T& constant = value;
  EXPECT_EQ(co_await pool.submit(echo<T>, value), value);
  EXPECT_EQ(co_await pool.submit(echo_reference<T>, constant), value);
  T copy = value;
  EXPECT_EQ(co_await pool.submit(echo_rvalue<T>, std::move(copy)), value);
}

TEST(values, scalars) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    co_await expect_echo(pool, true);
    co_await expect_echo(pool, false);
    co_await expect_echo(pool, 'x');
    co_await expect_echo(pool, std::int8_t{-128});
    co_await expect_echo(pool, std::numeric_limits<std::uint64_t>::max());
    co_await expect_echo(pool, -0.1f);
    co_await expect_echo(pool, std::numeric_limits<double>::denorm_min());
    co_await expect_echo(pool, colour::green);
    co_await expect_echo(pool, std::byte{255});
    co_await expect_echo(pool, std::complex<float>(1, -2));
    co_await expect_echo(pool, std::chrono::nanoseconds(-5));
    co_await expect_echo(pool, std::chrono::system_clock::now());
    EXPECT_EQ(co_await pool.submit(echo<double>, 7), 7.0);  // converted as in a call
    EXPECT_EQ(co_await pool.submit(echo<long>, few), 10);
  });
}

TEST(values, structs_and_standard_types) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    const sample one{'a', 2.5, true};
    co_await expect_echo(pool, one);
    co_await expect_echo(pool, std::pair<int, std::string>(1, "one"));
    co_await expect_echo(pool, std::tuple<bool, sample, std::string>(true, one, "x"));
    co_await expect_echo(pool, std::optional<std::string>("there"));
    co_await expect_echo(pool, std::optional<std::string>());
    co_await expect_echo(pool, std::variant<int, std::string, sample>(std::string("second")));
    co_await expect_echo(pool, std::variant<int, std::string, sample>(one));
    co_await expect_echo(pool, std::monostate());
    std::map<std::string, std::vector<int>> map;
    map["a"].assign(2, 1);
    map["b"];
    co_await expect_echo(pool, map);
    co_await expect_echo(pool, std::unordered_map<int, std::string>(std::size_t{3}));
    co_await expect_echo(pool, std::set<std::string>());
    co_await expect_echo(pool, std::list<double>(5, 0.5));
    co_await expect_echo(pool, std::deque<std::string>(3, "deque"));
    co_await expect_echo(pool, std::vector<bool>(1001, true));
    co_await expect_echo(pool, std::array<int, 3>{1, 2, 3});
    named mine{"n", std::vector<sample>(3, one), {}};
    mine.notes[1] = "one";
    mine.notes[2];
    co_await expect_echo(pool, mine);
    mine.name.assign(100'000, 'n');
    mine.samples.resize(20'000, one);
    co_await expect_echo(pool, mine);
  });
}

TEST(values, strings_below_and_above_the_inline_limit) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : {std::size_t{0}, few, many}) {
      std::string text(n, '\0');
      fill_pattern(text, 30);
      co_await expect_echo(pool, text);
      co_await expect_echo(pool, std::u16string(n, u'x'));
      const auto from_view = [](std::string_view view) { return std::string(view); };
      EXPECT_EQ(co_await pool.submit(from_view, text), text);
      const std::string_view view = std::string_view(text).substr(n / 2);
      EXPECT_EQ(co_await pool.submit(from_view, view), view);
      const auto sizes = [](const std::vector<std::string>& all) {
        std::size_t total = 0;
        for (const std::string& each : all) total += each.size();
        return std::pair(total, all.back());
      };
      const std::vector<std::string> strings(3, text);
      EXPECT_EQ(co_await pool.submit(sizes, strings), std::pair(3 * n, text));
    }
    EXPECT_EQ(co_await pool.submit([](std::string_view x) { return x.size(); }, "literal"), 7u);
    EXPECT_EQ(co_await pool.submit([](const std::string& x) { return x + "!"; }, "literal"), "literal!");
    const char* pointer = "pointer";
    EXPECT_EQ(co_await pool.submit([](std::string_view x) { return std::string(x); }, pointer), "pointer");
  });
}

TEST(values, large_values_go_through_shared_memory_and_leave_it) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    auto value = std::make_unique<bulky>();
    fill_pattern(value->words, 31);
    const auto seen = [](const bulky& x) { return digest(x.words); };
    EXPECT_EQ(co_await pool.submit(seen, *value), digest(value->words));
    const auto made = [](std::uint64_t seed) {
      bulky x;
      fill_pattern(x.words, seed);
      return x;
    };
    const bulky back = co_await pool.submit(made, std::uint64_t{31});
    EXPECT_EQ(digest(back.words), digest(value->words));
    EXPECT_EQ(pool.stats().live_segments, 0u);
    EXPECT_GE(pool.stats().cached_segments, 1u);
  });
}

TEST(values, types_that_can_only_be_moved) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    const auto add = [](std::unique_ptr<int> x, std::vector<std::unique_ptr<std::string>> y) {
      return std::to_string(*x) + *y.at(1);
    };
    std::vector<std::unique_ptr<std::string>> strings(2);
    strings[1] = std::make_unique<std::string>("b");
    auto number = std::make_unique<int>(4);
    EXPECT_EQ(co_await pool.submit(add, std::move(number), std::move(strings)), "4b");
    EXPECT_EQ(co_await pool.submit([](std::unique_ptr<int> none) { return none == nullptr; }, nullptr), true);
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

TEST(values, ten_arguments_of_mixed_kinds) {
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

template <int N, class... T>
int count_and_sum(T... x) {
  static_assert(sizeof...(T) == N);
  return (N + ... + x);
}

TEST(values, from_none_to_ten_arguments) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    EXPECT_EQ(co_await pool.submit(count_and_sum<0>), 0);
    EXPECT_EQ(co_await pool.submit(count_and_sum<1, int>, 1), 2);
    EXPECT_EQ(co_await pool.submit(count_and_sum<2, int, int>, 1, 2), 5);
    EXPECT_EQ(co_await pool.submit(count_and_sum<3, int, int, int>, 1, 2, 3), 9);
    EXPECT_EQ(co_await pool.submit(count_and_sum<4, int, int, int, int>, 1, 2, 3, 4), 14);
    EXPECT_EQ(co_await pool.submit(count_and_sum<5, int, int, int, int, int>, 1, 2, 3, 4, 5), 20);
    const auto six = [](int a, short b, long c, char d, int e, unsigned f) {
      return count_and_sum<6>(a, b, static_cast<int>(c), d, e, static_cast<int>(f));
    };
    EXPECT_EQ(co_await pool.submit(six, 1, short{2}, 3L, char{4}, 5, 6u), 27);
    const auto ten = [](int a, int b, int c, int d, int e, int f, int g, int h, int i, int j) {
      return count_and_sum<10>(a, b, c, d, e, f, g, h, i, j);
    };
    EXPECT_EQ(co_await pool.submit(ten, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10), 65);
  });
}

}  // namespace
