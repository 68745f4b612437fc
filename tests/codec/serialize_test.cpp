// Values that travel through the archives: standard containers, user types in all of cereal's forms, nested arrays.
#include "support/round_trip.hpp"

#include <shmpool/serialize.hpp>

#include <gtest/gtest.h>
#include <cereal/types/polymorphic.hpp>

#include <algorithm>
#include <bitset>
#include <chrono>
#include <complex>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <unordered_map>
#include <valarray>
#include <variant>
#include <vector>

namespace {

using shmpool::array;
using shmpool::make_array;
using shmpool::detail::access;
using shmpool::detail::bitwise;
using shmpool::detail::direction;
using shmpool::detail::plain_class;
using shmpool::testing::memory_source;
using shmpool::testing::pack_value;
using shmpool::testing::round_trip;
using shmpool::testing::shared_array;
using shmpool::testing::unpack_value;

template <class T>
T echo(const T& value) {
  memory_source source;
  return unpack_value<T>(pack_value(source, value));
}

struct point {
  double x, y;
  bool operator==(const point&) const = default;
};
struct empty {};
struct holds_pointer {  // trivially copyable, and wrong to send as bytes
  const int* where = nullptr;
  int copy = 0;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(copy);
  }
};
struct split {
  int value = 0;
  template <class Archive>
  void save(Archive& archive) const {
    archive(value + 1);
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(value);
  }
};
struct minimal {
  int value = 0;
};
template <class Archive>
int save_minimal(const Archive&, const minimal& m) {
  return m.value;
}
template <class Archive>
void load_minimal(const Archive&, minimal& m, const int& value) {
  m.value = value * 2;
}
struct only_ours {  // knows our archives and no others
  int value = 0;
};
void save(shmpool::output_archive& archive, const only_ours& o) {
  archive(o.value + 10);
}
void load(shmpool::input_archive& archive, only_ours& o) {
  archive(o.value);
}
struct ours_in_one {
  int value = 0;
  void serialize(shmpool::output_archive& archive) { archive(value); }
  void serialize(shmpool::input_archive& archive) {
    archive(value);
    value += 100;
  }
};
struct versioned {
  int value = 0;
  template <class Archive>
  void serialize(Archive& archive, const std::uint32_t version) {
    archive(value);
    if (version != 3) value = -1;
  }
};
enum class colour : unsigned char { red, green };

static_assert(plain_class<point> && plain_class<empty>);
static_assert(!plain_class<holds_pointer> && !plain_class<split> && !plain_class<minimal>);
static_assert(!plain_class<only_ours> && !plain_class<ours_in_one> && !plain_class<versioned>);
static_assert(!plain_class<std::optional<int>> && !plain_class<std::variant<int, float>>);
static_assert(!plain_class<std::string_view> && !plain_class<std::span<int>>);
static_assert(!plain_class<std::reference_wrapper<int>> && !plain_class<int*> && !plain_class<std::bitset<3>>);
static_assert(bitwise<std::array<point, 3>> && bitwise<std::chrono::milliseconds> && bitwise<colour>);
static_assert(bitwise<std::chrono::system_clock::time_point> && !bitwise<std::vector<int>> && !bitwise<bool>);

}  // namespace

CEREAL_CLASS_VERSION(versioned, 3)

namespace {

TEST(serialization, scalars) {
  const auto expect_echo_of = [](const auto& value) { EXPECT_EQ(echo(value), value); };
  const auto expect_echo = [&](const auto&... values) { (expect_echo_of(values), ...); };
  expect_echo(true, false, 'x', std::int8_t{-128}, std::numeric_limits<std::uint64_t>::max(), -0.1f);
  expect_echo(std::numeric_limits<double>::denorm_min(), colour::green, std::byte{255}, std::monostate());
  expect_echo(std::complex<float>(1, -2), std::chrono::nanoseconds(-5), std::chrono::system_clock::now());
  expect_echo(point{1, 2}, std::array<int, 3>{1, 2, 3}, std::string("a\0b", 3), std::string());
}

TEST(serialization, standard_containers) {
  const std::map<std::string, std::vector<int>> map{{"a", {1, 2}}, {"b", {}}};
  EXPECT_EQ(echo(map), map);
  const std::unordered_map<int, std::optional<std::string>> options{{1, "x"}, {2, std::nullopt}};
  EXPECT_EQ(echo(options), options);
  const std::vector<std::variant<int, std::string, std::monostate>> variants{1, "two", std::monostate{}};
  EXPECT_EQ(echo(variants), variants);
  const std::tuple<std::set<int>, std::list<std::string>, std::deque<char>> tuple{{3, 1}, {"l"}, {'d'}};
  EXPECT_EQ(echo(tuple), tuple);
  const std::vector<bool> bits{true, false, true}, many_bits(1001, true);
  EXPECT_EQ(echo(bits), bits);
  EXPECT_EQ(echo(many_bits), many_bits);
  EXPECT_EQ(echo(std::bitset<70>(5)), std::bitset<70>(5));
  EXPECT_EQ(echo(std::vector<colour>{colour::green})[0], colour::green);
  EXPECT_EQ(echo(std::pair(std::chrono::seconds(3), std::complex<float>(1, 2))).second.imag(), 2.0f);
  EXPECT_EQ(echo(std::u16string(u"wide")), u"wide");
  EXPECT_EQ(echo(std::array<std::string, 2>{"a", "b"})[1], "b");
  EXPECT_EQ(echo(std::valarray<double>{1, 2, 3})[2], 3.0);
  EXPECT_EQ(echo(std::valarray<double>{}).size(), 0u);
  const std::vector<std::array<bool, 2>> pairs{{true, false}};
  EXPECT_EQ(echo(pairs), pairs);
}

TEST(serialization, trivial_structs_in_containers) {
  const std::vector<point> points(100, point{1, 2});
  EXPECT_EQ(echo(std::vector{points}), std::vector{points});
  const std::map<std::string, point> named{{"origin", {0, 0}}, {"one", {1, 1}}};
  EXPECT_EQ(echo(named), named);
  EXPECT_EQ(echo(std::optional<point>(point{3, 4})), (point{3, 4}));
  EXPECT_EQ(echo(std::optional<point>()), std::nullopt);
  const std::vector<std::variant<int, std::string, point>> variants{std::string("second"), point{1, 2}};
  EXPECT_EQ(echo(variants), variants);
  const std::tuple<bool, point, std::string> tuple(true, {1, 2}, "x");
  EXPECT_EQ(echo(tuple), tuple);
  EXPECT_EQ(echo(std::tuple<point, int>({5, 6}, 7)), (std::tuple<point, int>({5, 6}, 7)));
}

TEST(serialization, user_types_in_every_form) {
  int target = 0;
  EXPECT_EQ(echo(holds_pointer{&target, 5}).where, nullptr);
  EXPECT_EQ(echo(holds_pointer{&target, 5}).copy, 5);
  EXPECT_EQ(echo(std::vector<holds_pointer>(3, {&target, 5}))[2].where, nullptr);
  EXPECT_EQ(echo(split{1}).value, 2);
  EXPECT_EQ(echo(minimal{4}).value, 8);
  EXPECT_EQ(echo(only_ours{1}).value, 11);
  EXPECT_EQ(echo(ours_in_one{1}).value, 101);
  EXPECT_EQ(echo(versioned{6}).value, 6);
}

struct silent {  // writes nothing, and is not empty
  int unused = 0;
  template <class Archive>
  void serialize(Archive&) {}
};

TEST(serialization, elements_that_write_nothing) {
  EXPECT_EQ(echo(std::vector<std::monostate>(1000)).size(), 1000u);
  EXPECT_EQ(echo(std::list<silent>(300)).size(), 300u);
  EXPECT_EQ(echo(std::vector<empty>(50)).size(), 50u);
  EXPECT_EQ(echo(std::list<empty>(50)).size(), 50u);
  EXPECT_EQ(echo(std::vector<std::vector<silent>>(10, std::vector<silent>(20)))[9].size(), 20u);
  round_trip submit;  // and what follows is found behind them
  EXPECT_EQ(submit([](const std::list<silent>& a, int b) { return static_cast<int>(a.size()) + b; },
                   std::list<silent>(300), 7),
            307);
}

class counter {
 public:
  int count = 1;
  char flag = 'f';

 private:
  [[maybe_unused]] int hidden_ = 2;
  [[maybe_unused]] char tail_ = 't';
};
struct derived : counter {
  char in_the_tail = 'd';
  template <class Archive>
  void serialize(Archive& archive) {
    archive(in_the_tail);
    if (Archive::is_loading::value) in_the_tail = 'y';  // other than the byte that the base was saved with
    archive(cereal::base_class<counter>(this));
  }
};

TEST(serialization, trivial_base_does_not_overwrite_its_derived_class) {
  memory_source source;
  static_assert(sizeof(derived) == sizeof(counter));  // in_the_tail is inside the base's size
  derived d;
  d.count = 5;
  d.in_the_tail = 'x';
  auto bytes = pack_value(source, std::vector{d});
  EXPECT_EQ(unpack_value<std::vector<derived>>(bytes)[0].in_the_tail, 'y');
  EXPECT_EQ(unpack_value<std::vector<derived>>(bytes)[0].count, 5);
}

TEST(serialization, large_blocks_go_through_a_segment) {
  memory_source source;
  auto one = pack_value(source, std::string(10'000, 'x'));
  EXPECT_EQ(one.attachments.size(), 1u);
  EXPECT_LT(one.bytes.size(), 64u);
  EXPECT_EQ(unpack_value<std::string>(one), std::string(10'000, 'x'));
  EXPECT_EQ(echo(std::u16string(10'000, u'x')), std::u16string(10'000, u'x'));
  const std::vector<std::string> strings(3, std::string(10'000, 'x'));
  EXPECT_EQ(echo(strings), strings);
  const std::vector<bool> bits(10'000, true);
  EXPECT_EQ(echo(bits), bits);
  const std::map<int, std::vector<point>> nested{{1, std::vector<point>(1000, {1, 2})}, {2, {{3, 4}}}};
  auto two = pack_value(source, nested);
  EXPECT_EQ(two.attachments.size(), 1u);
  EXPECT_EQ((unpack_value<std::map<int, std::vector<point>>>(two)), nested);
}

struct job {
  std::string name;
  array<const double, 2> samples;
  array<double> scratch;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(name, samples, scratch);
  }
};

TEST(serialization, nested_arrays_travel_out_of_band) {
  round_trip submit;
  auto samples = shared_array<double>(10, 10, 1.5);
  auto scratch = shared_array<double>(100, 2.0);
  const double* where = scratch.data();
  auto run = [](job j) {
    j.scratch[0] = j.samples(9, 9);
    return j;
  };
  auto result = submit(run, job{"moved", samples, std::move(scratch)});
  ASSERT_EQ(submit.arguments.attachments.size(), 2u);
  EXPECT_EQ(submit.arguments.attachments[0].mode, access::read);
  EXPECT_EQ(submit.arguments.attachments[0].handle, samples.handle());
  EXPECT_EQ(submit.arguments.attachments[1].mode, access::own);
  EXPECT_EQ(result.scratch.data(), where);
  EXPECT_EQ(result.samples.data(), samples.data());
  EXPECT_EQ(result.scratch[0], 1.5);
  EXPECT_EQ(submit.source.allocations, 0);
}

TEST(serialization, nested_arrays_that_are_const_are_lent_whatever_part_of_their_memory_they_are) {
  round_trip submit;
  auto x = shared_array<double>(100);
  std::iota(x.begin(), x.end(), 1.0);
  const std::map<std::string, array<const double>> all{{"whole", x},
                                                       {"odd slice", x.rows(3, 98)},
                                                       {"row", x.reshape(5, 20)[2]},
                                                       {"private", make_array<double>(100, 1.0)},
                                                       {"empty", {}}};
  const auto sums = [](const std::map<std::string, array<const double>>& each) {
    std::map<std::string, double> result;
    for (const auto& [name, values] : each) result[name] = std::accumulate(values.begin(), values.end(), 0.0);
    return result;
  };
  EXPECT_EQ(submit(sums, all), sums(all));
  EXPECT_EQ(submit.source.allocations, 1) << "what was not in shared memory was copied there, and nothing else";
  EXPECT_EQ(submit(sums, std::map<std::string, array<const double>>(all)), sums(all));
}

TEST(serialization, nested_array_of_an_lvalue_is_copied) {
  round_trip submit;
  job mine{"kept", {}, shared_array<double>(100, 2.0)};
  auto result = submit(
      [](job j) {
        j.scratch[0] = 9;
        return j;
      },
      mine);
  EXPECT_EQ(mine.scratch[0], 2.0);
  EXPECT_EQ(result.scratch[0], 9.0);
  EXPECT_EQ(submit.source.allocations, 1);
  // Kept by a second name only.
  auto scratch = mine.scratch;
  submit([](job j) { j.scratch[0] = 9; }, std::move(mine));
  EXPECT_EQ(scratch[0], 2.0);
}

TEST(serialization, array_behind_a_unique_pointer_is_given_away) {
  round_trip submit;
  auto mine = std::make_unique<job>(job{"unique", {}, shared_array<double>(100, 2.0)});
  const double* where = mine->scratch.data();
  const auto back = submit([](std::unique_ptr<job> j) { return j; }, std::move(mine));
  EXPECT_EQ(back->scratch.data(), where);
  EXPECT_EQ(back->scratch[99], 2.0);
}

TEST(serialization, array_behind_a_shared_pointer_is_not_given_away) {
  round_trip submit;
  auto shared = std::make_shared<job>(job{"shared", {}, shared_array<double>(100, 2.0)});
  auto other_owner = shared;
  const auto spoil = [](std::shared_ptr<job> j) {
    j->scratch[0] = 9;
    return j.use_count();
  };
  EXPECT_EQ(submit(spoil, std::move(shared)), 1);
  EXPECT_EQ(other_owner->scratch[0], 2.0);
}

TEST(serialization, arrays_in_every_container) {
  round_trip submit;
  using arrays = std::tuple<std::map<std::string, array<const int>>, std::vector<array<int, 2>>,
                            std::optional<array<const int>>, std::variant<int, array<const int>>>;
  auto total = [](arrays a) {
    auto& [map, vector, optional, variant] = a;
    int sum = 0;
    for (auto& [name, x] : map) sum += std::accumulate(x.begin(), x.end(), 0);
    for (auto& x : vector) sum += std::accumulate(x.begin(), x.end(), 0);
    sum += std::get<1>(variant)[0] + (*optional)[0];
    return std::pair(sum, a);
  };
  auto row = shared_array<int>(50, shmpool::fill(1));
  auto small = make_array<int>(2, shmpool::fill(1));
  auto [sum, back] = submit(total, arrays{{{"row", row}, {"small", small}},
                                          {shared_array<int>(5, 5, shmpool::fill(1)), array<int, 2>{}},
                                          row.rows(10, 40),
                                          array<const int>(row)});
  EXPECT_EQ(sum, 50 + 2 + 25 + 1 + 1);
  EXPECT_EQ(std::get<0>(back)["row"].data(), row.data());
  EXPECT_EQ(std::get<2>(back)->data(), row.data() + 10);
}

TEST(serialization, arrays_that_a_task_has_made_come_back_in_every_container) {
  round_trip submit;
  using arrays = std::tuple<std::map<std::string, array<double>>, std::optional<array<double>>,
                            std::variant<std::string, array<double>, int>, array<const double>, bool>;
  auto make = [](std::size_t n) {
    const auto filled = [n](double value) { return make_array<double>(n, value); };
    return arrays({{"a", filled(1)}, {"none", {}}}, filled(2), filled(3), filled(4), true);
  };
  for (const std::size_t n : {std::size_t{4}, std::size_t{100}}) {
    auto [map, optional, variant, constant, flag] = submit(make, n);
    EXPECT_EQ(map.at("a")[n - 1], 1);
    EXPECT_TRUE(map.at("none").empty());
    EXPECT_EQ(optional.value()[n - 1], 2);
    EXPECT_EQ(std::get<1>(variant)[n - 1], 3);
    EXPECT_EQ(constant[n - 1], 4);
    EXPECT_EQ(constant.size(), n);
    EXPECT_TRUE(flag);
    EXPECT_EQ(submit.result.attachments.size(), n == 100 ? 4u : 0u);
    for (const auto& each : submit.result.attachments) EXPECT_EQ(each.mode, access::own);
  }
  auto choose = [](int which) -> std::variant<std::string, array<double>, int> {
    if (which == 0) return "text";
    return which;
  };
  EXPECT_EQ(std::get<std::string>(submit(choose, 0)), "text");
  EXPECT_EQ(std::get<int>(submit(choose, 2)), 2);
}

TEST(serialization, arrays_may_be_nested_deep) {
  round_trip submit;
  using deep = std::tuple<std::vector<std::optional<array<const double>>>,
                          std::unordered_map<int, std::variant<int, array<const double>, std::string>>,
                          std::pair<std::string, std::vector<job>>>;
  const auto turn = [](deep in) {
    auto& [list, map, jobs] = in;
    std::swap(list.at(0), list.at(1));
    map[7] = std::get<1>(map.at(3)).rows(1, 4);
    jobs.second.push_back(jobs.second.at(0));
    return in;
  };
  for (const std::size_t n : {std::size_t{6}, std::size_t{100}}) {
    auto x = shared_array<double>(n);
    std::iota(x.begin(), x.end(), 1.0);
    const auto samples = shared_array<double>(n, 2, 5.0);
    const deep in({x, std::nullopt}, {{3, x}, {4, "four"}, {5, 5}},
                  {"jobs", {job{"j", samples, shared_array<double>(n, 6.0)}}});
    const deep out = submit(turn, in);
    const auto& [list, map, jobs] = out;
    EXPECT_FALSE(list.at(0));
    EXPECT_TRUE(std::ranges::equal(list.at(1).value(), x));
    EXPECT_TRUE(std::ranges::equal(std::get<1>(map.at(7)), x.rows(1, 4)));
    EXPECT_EQ(std::get<std::string>(map.at(4)), "four");
    EXPECT_EQ(std::get<int>(map.at(5)), 5);
    EXPECT_EQ(jobs.second.size(), 2u);
    for (const job& each : jobs.second) {
      EXPECT_TRUE(std::ranges::equal(each.samples, samples));
      EXPECT_EQ(each.scratch[n - 1], 6.0);
    }
    if (n == 100) {
      EXPECT_EQ(list.at(1)->data(), x.data());
      EXPECT_EQ(std::get<1>(map.at(3)).data(), x.data());
    }
  }
}

struct shape {
  virtual ~shape() = default;
  virtual double area() const = 0;
};
struct square : shape {
  double side = 0;
  double area() const override { return side * side; }
  template <class Archive>
  void serialize(Archive& archive) {
    archive(side);
  }
};

struct node {
  int value = 0;
  std::unique_ptr<node> next;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(value, next);
  }
};

std::unique_ptr<node> chain(int length) {
  std::unique_ptr<node> head;
  for (int i = 0; i < length; ++i) head = std::make_unique<node>(node{i, std::move(head)});
  return head;
}

TEST(serialization, pointers_and_sharing) {
  memory_source source;
  auto one = std::make_shared<std::string>("one");
  auto [a, b] = echo(std::pair(one, one));
  EXPECT_EQ(a, b);
  EXPECT_EQ(*a, "one");
  EXPECT_EQ(*unpack_value<std::unique_ptr<int>>(pack_value(source, std::make_unique<int>(4))), 4);
  EXPECT_EQ(unpack_value<std::unique_ptr<node>>(pack_value(source, chain(900)))->value, 899);
}

struct choosy {
  int value = 0;
  template <class Archive>
  void save(Archive& archive) const {
    archive(value);
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(value);
    if (value < 0) throw std::invalid_argument("choosy: a negative value");
  }
};

// Every std::logic_error was taken for a corrupted message, and the user was told that a worker had been killed.
TEST(serialization, what_a_types_own_load_throws_arrives_as_it_is) {
  memory_source source;
  EXPECT_EQ(unpack_value<choosy>(pack_value(source, choosy{1})).value, 1);
  EXPECT_THROW(unpack_value<choosy>(pack_value(source, choosy{-1})), std::invalid_argument);
}

TEST(serialization, nesting_has_a_limit_on_the_senders_side) {
  memory_source source;
  EXPECT_THROW(pack_value(source, chain(5000)), std::length_error);
}

}  // namespace

CEREAL_REGISTER_TYPE_WITH_NAME(square, "square")
CEREAL_REGISTER_POLYMORPHIC_RELATION(shape, square)

namespace {

TEST(serialization, polymorphic_types_that_are_registered) {
  round_trip submit;
  auto result = submit(
      [](std::unique_ptr<shape> s) {
        auto twice = std::make_unique<square>();
        twice->side = 2 * s->area();
        return std::unique_ptr<shape>(std::move(twice));
      },
      [] {
        auto s = std::make_unique<square>();
        s->side = 2;
        return s;
      }());
  EXPECT_EQ(result->area(), 64.0);
}

}  // namespace
