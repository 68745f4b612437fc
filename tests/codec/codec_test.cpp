// The parameter table: how each kind of argument reaches each kind of parameter, and how results come back.
#include "support/round_trip.hpp"

#include <gtest/gtest.h>

#include <complex>
#include <list>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using shmpool::array;
using shmpool::make_array;
using shmpool::detail::access;
using shmpool::detail::callable_with;
using shmpool::testing::inline_limit;
using shmpool::testing::round_trip;
using shmpool::testing::shared_array;

template <class T, std::size_t Rank>
array<T, Rank> counting(array<T, Rank> a) {
  std::iota(a.begin(), a.end(), T{1});
  return a;
}

double sum(array<const double> x) {
  return std::accumulate(x.begin(), x.end(), 0.0);
}
double sum_by_reference(const array<const double>& x) {
  return sum(x);
}
double sum_span(std::span<const double> x) {
  return std::accumulate(x.begin(), x.end(), 0.0);
}
double sum_vector(const std::vector<double>& x) {
  return sum_span(x);
}
double sum_own_vector(std::vector<double> x) {
  return sum_span(x);
}

constexpr std::size_t many = 100;  // elements; above the limit for doubles
const double sum_of_many = 5050;

TEST(codec, array_is_lent_for_reading_without_a_copy) {
  round_trip submit;
  auto a = counting(shared_array<double>(many));
  EXPECT_EQ(submit(sum, a), sum_of_many);
  ASSERT_EQ(submit.arguments.attachments.size(), 1u);
  EXPECT_EQ(submit.arguments.attachments[0].mode, access::read);
  EXPECT_EQ(submit.arguments.attachments[0].handle, a.handle());
  EXPECT_EQ(submit.arguments.attachments[0].length, many * sizeof(double));
  EXPECT_EQ(submit.source.allocations, 0);
  EXPECT_EQ(submit(sum_by_reference, array<const double>(a)), sum_of_many);
  EXPECT_EQ(submit(sum_span, a), sum_of_many);
  EXPECT_EQ(submit(sum_vector, a), sum_of_many);
  EXPECT_EQ(submit(sum_own_vector, a), sum_of_many);
  EXPECT_EQ(submit(sum, shared_array<double>(many, 1.0)), 100.0);
  EXPECT_EQ(submit.source.allocations, 0);
}

TEST(codec, small_array_travels_in_the_message) {
  round_trip submit;
  auto a = counting(shared_array<double>(inline_limit / sizeof(double)));
  EXPECT_EQ(submit(sum, a), 36.0);
  EXPECT_TRUE(submit.arguments.attachments.empty());
}

TEST(codec, private_array_is_copied_once_for_reading) {
  round_trip submit;
  auto a = counting(make_array<double>(many));
  EXPECT_EQ(submit(sum, a), sum_of_many);
  EXPECT_EQ(submit.source.allocations, 1);
  EXPECT_EQ(submit.arguments.attachments.at(0).mode, access::own);
}

TEST(codec, slice_carries_its_offset) {
  round_trip submit;
  auto a = counting(shared_array<double>(10, many));
  EXPECT_EQ(submit(sum, a[3]), 100 * 300 + sum_of_many);
  const auto& attached = submit.arguments.attachments.at(0);
  EXPECT_EQ(attached.offset, 3 * many * sizeof(double));
  EXPECT_EQ(attached.length, many * sizeof(double));
  EXPECT_EQ(attached.handle, a.handle());
}

/// A contiguous range of a user's own, as a matrix library has.
struct column {
  std::vector<double> storage;
  const double* begin() const { return storage.data(); }
  const double* end() const { return storage.data() + storage.size(); }
};

TEST(codec, contiguous_ranges_of_the_same_type_are_readable) {
  round_trip submit;
  std::vector<double> vector(many);
  std::iota(vector.begin(), vector.end(), 1.0);
  std::array<double, 3> small{1, 2, 3};
  double plain[] = {1, 2, 4};
  EXPECT_EQ(submit(sum, vector), sum_of_many);
  EXPECT_EQ(submit.source.allocations, 1);
  EXPECT_EQ(submit.arguments.attachments.at(0).mode, access::own);
  EXPECT_EQ(submit(sum, small), 6.0);
  EXPECT_EQ(submit(sum, plain), 7.0);
  EXPECT_EQ(submit(sum_span, std::span<double>(vector).first(3)), 6.0);
  EXPECT_EQ(submit(sum_span, std::as_const(vector)), sum_of_many);
  const column foreign{vector};
  EXPECT_EQ(submit(sum, foreign), sum_of_many);
  EXPECT_EQ(submit(sum_by_reference, foreign), sum_of_many);
  EXPECT_EQ(submit(sum_span, foreign), sum_of_many);
  EXPECT_EQ(submit(sum_vector, foreign), sum_of_many);
  EXPECT_EQ(submit(sum_own_vector, foreign), sum_of_many);
  EXPECT_EQ(submit(sum_by_reference, small), 6.0);
  EXPECT_EQ(submit(sum_vector, small), 6.0);
  EXPECT_EQ(submit(sum_vector, std::move(vector)), sum_of_many);
  EXPECT_TRUE(vector.empty());  // NOLINT(bugprone-use-after-move): it was moved into the operation
  EXPECT_EQ(submit(sum_vector, plain), 7.0);
  EXPECT_EQ(submit(sum, std::vector<double>{}), 0.0);
  using row = double[2];
  EXPECT_EQ(submit(sum, row{1, 2}), 3.0);
}

TEST(codec, lvalue_range_is_read_when_the_task_is_written_not_before) {
  std::vector<int> numbers{1};
  auto kept = shmpool::detail::store_arguments<void (*)(std::span<const int>)>(numbers);
  EXPECT_EQ(std::get<0>(kept).value.data(), numbers.data());
}

TEST(codec, other_element_types_and_ranks_are_not_readable) {
  static_assert(!callable_with<decltype(sum), std::vector<float>&>);
  static_assert(!callable_with<decltype(sum), std::list<double>&>);
  static_assert(!callable_with<decltype(sum), array<float>&>);
  static_assert(!callable_with<decltype(sum), array<double, 2>&>);
  static_assert(callable_with<decltype(sum_span), array<double, 2>&>);
  static_assert(!callable_with<double (*)(array<const double, 2>), std::vector<double>&>);
}

void twice(array<double>& x) {
  for (double& value : x) value *= 2;
}
void twice_span(std::span<double> x) {
  for (double& value : x) value *= 2;
}

TEST(codec, array_reference_is_edited_in_place) {
  round_trip submit;
  auto a = counting(shared_array<double>(many));
  submit(twice, a);
  EXPECT_EQ(a[9], 20.0);
  EXPECT_EQ(submit.arguments.attachments.at(0).mode, access::write);
  auto matrix = counting(shared_array<double>(4, 25));
  submit(twice_span, matrix);
  EXPECT_EQ(matrix(1, 0), 52.0);
  EXPECT_EQ(submit.source.allocations, 0);
}

TEST(codec, small_array_is_edited_in_place_too) {
  round_trip submit;
  auto a = shared_array<double>(1, shmpool::fill(3.0));
  submit(twice, a);
  EXPECT_EQ(a[0], 6.0);
}

TEST(codec, private_memory_cannot_be_edited_in_place) {
  round_trip submit;
  auto a = make_array<double>(many);
  EXPECT_THROW(submit(twice, a), std::invalid_argument);
  EXPECT_THROW(submit(twice_span, a), std::invalid_argument);
  auto empty = make_array<double>(0);
  EXPECT_NO_THROW(submit(twice, empty));
}

TEST(codec, editing_takes_an_array_lvalue) {
  static_assert(!callable_with<decltype(twice), array<double>>);
  static_assert(!callable_with<decltype(twice), const array<double>&>);
  static_assert(!callable_with<decltype(twice), array<const double>&>);
  static_assert(!callable_with<decltype(twice_span), std::vector<double>&>);
  static_assert(!callable_with<decltype(twice_span), array<double>>);
  static_assert(!callable_with<decltype(twice_span), array<const double>&>);
  static_assert(callable_with<decltype(twice_span), const array<double, 3>&>);
}

array<double> owned(array<double> x) {
  x[0] = -1;
  return x;
}
double first_of_moved(array<double>&& x) {
  return x[0];
}

TEST(codec, rvalue_array_is_moved) {
  round_trip submit;
  auto a = counting(shared_array<double>(many));
  const double* where = a.data();
  auto result = submit(owned, std::move(a));
  EXPECT_EQ(submit.arguments.attachments.at(0).mode, access::own);
  EXPECT_EQ(result.data(), where);
  EXPECT_EQ(result[0], -1.0);
  EXPECT_EQ(submit.source.allocations, 0);
  EXPECT_EQ(submit(first_of_moved, counting(shared_array<double>(many))), 1.0);
}

TEST(codec, rvalue_slice_that_is_the_only_name_of_its_memory_is_moved_at_its_offset) {
  round_trip submit;
  auto part = counting(shared_array<double>(many)).rows(3, many - 5);
  const double* where = part.data();
  auto result = submit(owned, std::move(part));
  EXPECT_EQ(result.data(), where);
  EXPECT_EQ(result.byte_offset(), 3 * sizeof(double));
  EXPECT_EQ(result.size(), many - 8);
  EXPECT_EQ(submit.source.allocations, 0);
}

TEST(codec, lvalue_array_by_value_is_copied_once) {
  round_trip submit;
  auto a = counting(shared_array<double>(many));
  auto result = submit(owned, a);
  EXPECT_EQ(a[0], 1.0);
  EXPECT_EQ(result[0], -1.0);
  EXPECT_EQ(submit.source.allocations, 1);
}

TEST(codec, rvalue_array_with_another_owner_is_copied) {
  round_trip submit;
  auto a = counting(shared_array<double>(2, many));
  auto result = submit(owned, a[1]);
  EXPECT_EQ(a(1, 0), 101.0);
  EXPECT_EQ(result[0], -1.0);
  auto second_name = a[0];
  auto third_name = second_name;
  submit(owned, std::move(third_name));
  EXPECT_EQ(second_name[0], 1.0);
}

TEST(codec, ranks_and_extents_survive) {
  round_trip submit;
  auto extents_of = [](array<const int, 4> x) { return x.extents(); };
  EXPECT_EQ(submit(extents_of, shared_array<int>(2, 3, 4, 5)), (std::array<std::size_t, 4>{2, 3, 4, 5}));
  EXPECT_EQ(submit(extents_of, shared_array<int>(2, 0, 4, 5)), (std::array<std::size_t, 4>{2, 0, 4, 5}));
  EXPECT_EQ(submit(extents_of, array<int, 4>{}), (std::array<std::size_t, 4>{}));
  auto transpose = [](array<const int, 2> x) {
    auto y = make_array<int>(x.extent(1), x.extent(0));
    for (std::size_t i = 0; i < x.extent(0); ++i) {
      for (std::size_t j = 0; j < x.extent(1); ++j) y(j, i) = x(i, j);
    }
    return y;
  };
  EXPECT_EQ(submit(transpose, counting(shared_array<int>(30, 20)))(19, 0), 20);
  auto corner = [](array<const int, 3> x) { return x(1, 1, 1); };
  EXPECT_EQ(submit(corner, counting(shared_array<int>(2, 2, 2))), 8);
}

struct alignas(64) wide {
  double value;
};
struct point {
  double x, y;
  int tag;
};

TEST(codec, structs_and_over_aligned_elements) {
  round_trip submit;
  auto last_x = [](std::span<const point> points) { return points.back().x; };
  EXPECT_EQ(submit(last_x, std::vector<point>{{1, 2, 3}, {4, 5, 6}}), 4.0);
  EXPECT_EQ(submit(last_x, std::vector<point>(many, point{7, 8, 9})), 7.0);
  auto misalignment = [](array<const wide> x) { return reinterpret_cast<std::uintptr_t>(x.data()) % 64; };
  EXPECT_EQ(submit(misalignment, std::vector<wide>(1)), 0u);  // in the message, behind a header of odd size
  EXPECT_EQ(submit(misalignment, std::vector<wide>(many)), 0u);
}

TEST(codec, vector_of_structs_comes_as_a_vector) {
  round_trip submit;
  auto echo = [](std::vector<point> points) { return points; };
  auto result = submit(echo, std::vector<point>(many, point{1, 2, 3}));
  ASSERT_EQ(result.size(), many);
  EXPECT_EQ(result.back().tag, 3);
  EXPECT_EQ(submit.result.attachments.size(), 1u);
  EXPECT_EQ(submit(echo, std::vector<point>{}).size(), 0u);
}

TEST(codec, span_of_fixed_extent_checks_the_count) {
  round_trip submit;
  auto norm = [](std::span<const double, 3> v) { return v[0] * v[0] + v[1] * v[1] + v[2] * v[2]; };
  EXPECT_EQ(submit(norm, std::array{1.0, 2.0, 2.0}), 9.0);
  EXPECT_THROW(submit(norm, std::array{1.0, 2.0}), std::invalid_argument);
}

TEST(codec, string_view_travels_as_a_string) {
  round_trip submit;
  auto length = [](std::string_view text) { return text.size(); };
  std::string text(500, 'x');
  EXPECT_EQ(submit(length, "abc"), 3u);
  EXPECT_EQ(submit(length, text), 500u);
  EXPECT_EQ(submit.arguments.attachments.size(), 1u);
  EXPECT_EQ(submit(length, std::move(text)), 500u);
  EXPECT_EQ(submit(length, std::string_view("ab")), 2u);
  EXPECT_EQ(submit(length, ""), 0u);
  auto copy = [](std::string_view view) { return std::string(view); };
  const char* pointer = "pointer";
  EXPECT_EQ(submit(copy, pointer), "pointer");
  const std::string zeros(500, '\0');
  EXPECT_EQ(submit(copy, zeros), zeros);
  EXPECT_EQ(submit(copy, std::string_view("a part of it").substr(2)), "part of it");
}

TEST(codec, values_are_converted_to_the_parameter_type) {
  round_trip submit;
  auto mixed = [](double a, const std::string& b, bool c, std::string&& d) {
    return b + d + std::to_string(static_cast<int>(a)) + (c ? "yes" : "no");
  };
  EXPECT_EQ(submit(mixed, 3, "b", true, std::string("d")), "bd3yes");
  static_assert(!callable_with<decltype(mixed), int, int, bool, std::string>);
}

struct block {
  double values[1000];
};

TEST(codec, large_trivially_copyable_value_goes_through_a_segment) {
  round_trip submit;
  block big{};
  big.values[999] = 4;
  EXPECT_EQ(submit([](const block& b) { return b; }, big).values[999], 4.0);
  EXPECT_EQ(submit.source.allocations, 2);
  EXPECT_LT(submit.arguments.bytes.size(), 100u);
}

TEST(codec, complex_numbers_travel_as_one_block) {
  round_trip submit;
  auto total = [](const std::vector<std::complex<double>>& z) {
    return std::accumulate(z.begin(), z.end(), std::complex<double>{});
  };
  EXPECT_EQ(submit(total, std::vector<std::complex<double>>(many, {1, 2})), (std::complex<double>{100, 200}));
  EXPECT_EQ(submit.arguments.attachments.size(), 1u);
}

TEST(codec, move_only_arguments_and_results) {
  round_trip submit;
  auto next = [](std::unique_ptr<int> x) { return std::make_unique<int>(*x + 1); };
  auto result = submit(next, std::make_unique<int>(41));
  ASSERT_TRUE(result);
  EXPECT_EQ(*result, 42);
  EXPECT_TRUE(submit([](std::unique_ptr<int> none) { return none == nullptr; }, nullptr));
  EXPECT_EQ(submit([] { return std::unique_ptr<int>(); }), nullptr);
  auto swap = [](std::vector<std::unique_ptr<std::string>> x) {
    std::swap(x.at(0), x.at(1));
    return x;
  };
  std::vector<std::unique_ptr<std::string>> strings(2);
  strings[1] = std::make_unique<std::string>("b");
  const auto swapped = submit(swap, std::move(strings));
  EXPECT_EQ(*swapped.at(0), "b");
  EXPECT_EQ(swapped.at(1), nullptr);
}

TEST(codec, result_array_of_another_owner_is_shared) {
  round_trip submit;
  auto a = counting(shared_array<double>(many));
  auto same = [](array<double>& x) { return x; };
  auto tail = [](array<const double> x) { return x.rows(90, 100); };
  auto result = submit(same, a);
  EXPECT_EQ(result.data(), a.data());
  EXPECT_EQ(submit.result.attachments.at(0).mode, access::write);
  auto rest = submit(tail, a);
  EXPECT_EQ(rest.data(), a.data() + 90);
  EXPECT_EQ(submit.result.attachments.at(0).mode, access::read);
}

TEST(codec, result_in_private_memory_is_copied_or_put_into_the_message) {
  round_trip submit;
  auto make = [](std::size_t n) { return counting(make_array<double>(n)); };
  EXPECT_EQ(submit(make, 4)[3], 4.0);
  EXPECT_TRUE(submit.result.attachments.empty());
  EXPECT_EQ(submit(make, many)[99], 100.0);
  EXPECT_EQ(submit.result.attachments.at(0).mode, access::own);
}

}  // namespace
