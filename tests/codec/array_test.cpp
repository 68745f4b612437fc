// array<T, Rank>: shape, sharing, slices, checks, and where make_array gets its memory.
#include "support/memory_source.hpp"

#include <shmpool/array.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <numeric>
#include <ranges>
#include <stdexcept>
#include <string>

namespace {

using shmpool::array;
using shmpool::make_array;

static_assert(std::ranges::contiguous_range<array<double, 2>>);
static_assert(std::ranges::sized_range<array<const int>>);
static_assert(std::is_nothrow_move_constructible_v<array<int>>);
static_assert(std::is_convertible_v<array<int, 2>, array<const int, 2>>);
static_assert(!std::is_convertible_v<array<const int>, array<int>>);
static_assert(!std::is_convertible_v<array<int>, array<const long>>);
static_assert(std::is_convertible_v<array<int>&, std::span<int>>);
static_assert(std::is_convertible_v<array<int>, std::span<const int>>);
static_assert(!std::is_convertible_v<array<const int>&, std::span<int>>);

template <class Exception, class Action>
std::string text_of(Action&& action) {
  try {
    action();
  } catch (const Exception& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(arrays, default_constructed_is_null_and_empty) {
  array<double, 3> a;
  EXPECT_TRUE(a.empty());
  EXPECT_EQ(a.data(), nullptr);
  EXPECT_EQ(a.begin(), a.end());
  EXPECT_FALSE(a.handle());
  EXPECT_EQ(a.extents(), (std::array<std::size_t, 3>{0, 0, 0}));
}

TEST(arrays, elements_are_in_c_order) {
  auto a = make_array<int>(2, 3, 4);
  static_assert(decltype(a)::rank() == 3);
  std::iota(a.begin(), a.end(), 0);
  EXPECT_EQ(a(1, 2, 3), 23);
  EXPECT_EQ(a(1, 0, 2), 14);
  EXPECT_EQ(a.at(1, 2, 0), 20);
  EXPECT_EQ(a[1][2][3], 23);
  EXPECT_EQ(a.size(), 24u);
  EXPECT_EQ(a.size_bytes(), 96u);
  EXPECT_EQ(a.extent(2), 4u);
}

TEST(arrays, rows_and_slices_share_the_segment) {
  auto a = make_array<int>(4, 3);
  std::iota(a.begin(), a.end(), 0);
  auto row = a[2];
  auto middle = a.rows(1, 3);
  row[1] = 70;
  EXPECT_EQ(a(2, 1), 70);
  EXPECT_EQ(middle(1, 1), 70);
  EXPECT_EQ(middle.extent(0), 2u);
  EXPECT_EQ(middle.byte_offset(), 3 * sizeof(int));
  EXPECT_EQ(row.byte_offset(), 6 * sizeof(int));
  EXPECT_EQ(row.handle(), a.handle());
  EXPECT_EQ(a.handle().use_count(), 3);
}

TEST(arrays, slice_keeps_the_memory_alive) {
  array<int> row;
  {
    auto a = make_array<int>(3, 2, shmpool::fill(9));
    row = a[1];
  }
  EXPECT_EQ(row[0], 9);
  EXPECT_EQ(row.handle().use_count(), 1);
}

TEST(arrays, rows_outside_are_refused) {
  auto a = make_array<int>(4, 3);
  EXPECT_THROW(a.rows(3, 5), std::out_of_range);
  EXPECT_THROW(a.rows(3, 2), std::out_of_range);
  EXPECT_TRUE(a.rows(4, 4).empty());
  EXPECT_TRUE((array<int, 2>{}.rows(0, 0).empty()));
}

TEST(arrays, at_names_the_index_and_the_extent) {
  auto a = make_array<int>(4, 3);
  EXPECT_EQ(text_of<std::out_of_range>([&] { a.at(2, 3); }),
            "shmpool: index 3 in dimension 1 of an array whose extent there is 3");
  EXPECT_EQ(text_of<std::out_of_range>([&] { a.at(-1, 0); }),
            "shmpool: index -1 in dimension 0 of an array whose extent there is 4");
  EXPECT_THROW(a.at(std::numeric_limits<std::uint64_t>::max(), 0), std::out_of_range);
}

TEST(arrays, reshape_shares_and_checks_the_count) {
  auto a = make_array<int>(6);
  std::iota(a.begin(), a.end(), 0);
  auto b = a.reshape(2, 3);
  b(1, 0) = 33;
  EXPECT_EQ(a[3], 33);
  EXPECT_EQ(b.reshape(std::array{3, 2}).extents(), (std::array<std::size_t, 2>{3, 2}));
  EXPECT_THROW(a.reshape(2, 2), std::invalid_argument);
  EXPECT_THROW(a.reshape(std::size_t{1} << 40, std::size_t{1} << 40), std::length_error);
}

TEST(arrays, clone_is_deep_and_mutable) {
  auto a = make_array<int>(2, 2, shmpool::fill(5));
  array<const int, 2> view = a;
  array<int, 2> copy = view.clone();
  copy(0, 0) = 1;
  EXPECT_EQ(a(0, 0), 5);
  EXPECT_NE(copy.handle(), a.handle());
  EXPECT_EQ(copy.extents(), a.extents());
  EXPECT_TRUE((array<int, 2>{}.clone().empty()));
}

// A conversion to array<const T> copied: whoever moved a result on held the memory twice.
TEST(arrays, one_that_is_converted_by_a_move_lets_go) {
  auto a = make_array<int>(2, 3, shmpool::fill(5));
  const int* const data = a.data();
  array<const int, 2> b = std::move(a);
  EXPECT_EQ(b.data(), data);
  EXPECT_EQ(b.handle().use_count(), 1);
  EXPECT_EQ(b.extents(), (std::array<std::size_t, 2>{2, 3}));
  EXPECT_TRUE(a.empty());  // NOLINT(bugprone-use-after-move): that is the promise
  EXPECT_FALSE(a.handle());
  array<const int, 2> c;
  c = b.clone();
  EXPECT_EQ(c.handle().use_count(), 1);
}

TEST(arrays, a_small_integer_of_the_elements_type_fills_where_that_is_said) {
  EXPECT_EQ(make_array<std::uint8_t>(10, shmpool::fill(std::uint8_t{7}))[9], 7);
  EXPECT_EQ(make_array<std::uint8_t>(std::uint8_t{10}).size(), 10u);
  EXPECT_EQ(make_array<std::uint8_t>(std::uint8_t{3}, 4).size(), 12u);
  EXPECT_EQ(make_array<int>(3, 4).size(), 12u);
}

TEST(arrays, moved_from_is_null) {
  auto a = make_array<int>(3);
  auto b = std::move(a);
  EXPECT_TRUE(a.empty());  // NOLINT(bugprone-use-after-move): that is the promise
  EXPECT_EQ(a.data(), nullptr);
  EXPECT_EQ(b.handle().use_count(), 1);
}

TEST(arrays, copy_is_shallow) {
  auto a = make_array<int>(3, shmpool::fill(1));
  auto b = a;
  b[0] = 2;
  EXPECT_EQ(a[0], 2);
}

TEST(arrays, zero_extent_keeps_the_shape_and_takes_no_memory) {
  auto a = make_array<double>(3, 0, 5);
  EXPECT_EQ(a.extents(), (std::array<std::size_t, 3>{3, 0, 5}));
  EXPECT_TRUE(a.empty());
  EXPECT_FALSE(a.handle());
  EXPECT_EQ(a[2].extents(), (std::array<std::size_t, 2>{0, 5}));
  EXPECT_TRUE(make_array<double>(std::numeric_limits<std::size_t>::max(), 0, 7).empty());
}

TEST(arrays, extents_that_overflow_are_refused) {
  EXPECT_THROW(make_array<double>(std::size_t{1} << 32, std::size_t{1} << 32), std::length_error);
  EXPECT_THROW(make_array<double>(std::size_t{1} << 61), std::length_error);
  EXPECT_EQ(text_of<std::length_error>([] { make_array<double>(2, -3); }), "shmpool: array extent -3 is negative");
}

TEST(arrays, fill_value_is_the_last_argument_that_is_no_extent) {
  EXPECT_EQ(make_array<double>(3, 2.5)[2], 2.5);
  EXPECT_EQ(make_array<int>(3, shmpool::fill(7))[2], 7);
  EXPECT_EQ(make_array<char>(3, 'x')[2], 'x');
  EXPECT_EQ(make_array<bool>(3, true)[2], true);
  EXPECT_EQ((make_array<int>(std::array{2, 3}, shmpool::fill(4))(1, 2)), 4);
  static_assert(decltype(make_array<int>(3, 7))::rank() == 2);
}

TEST(arrays, like_another_takes_its_shape) {
  auto a = make_array<int>(2, 3);
  array<const int, 2> view = a;
  auto b = shmpool::make_array_like(view, 8);
  static_assert(std::is_same_v<decltype(b), array<int, 2>>);
  EXPECT_EQ(b.extents(), a.extents());
  EXPECT_EQ(b(1, 2), 8);
  EXPECT_NE(b.handle(), a.handle());
}

struct alignas(64) wide {
  double values[3];
};

TEST(arrays, over_aligned_elements_are_aligned) {
  auto a = make_array<wide>(5);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a.data()) % 64, 0u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&a[3]) % 64, 0u);
}

TEST(arrays, over_a_handle_is_checked_against_the_segment) {
  auto memory = shmpool::testing::memory_segment::make(64, 64);
  EXPECT_EQ((array<int, 2>(memory, 16, {3, 4}).size()), 12u);
  EXPECT_THROW((array<int, 2>(memory, 20, {3, 4})), std::out_of_range);
  EXPECT_THROW((array<int>(memory, 2, {1})), std::out_of_range);
  EXPECT_THROW((array<int>(memory, std::numeric_limits<std::size_t>::max() - 1, {1})), std::out_of_range);
  EXPECT_THROW((array<int>(shmpool::shm_handle{}, 0, {1})), std::out_of_range);
}

TEST(arrays, local_allocator_serves_what_is_above_its_limit) {
  shmpool::testing::memory_source source;
  shmpool::detail::set_local_allocator(&source, 100);
  auto small = make_array<std::uint8_t>(100);
  auto large = make_array<std::uint8_t>(101);
  shmpool::detail::set_local_allocator(nullptr, 0);
  EXPECT_FALSE(small.handle().is_shared());
  EXPECT_TRUE(large.handle().is_shared());
  EXPECT_FALSE(make_array<std::uint8_t>(101).handle().is_shared());
}

double mean(array<const double> samples) {
  return std::accumulate(samples.begin(), samples.end(), 0.0) / static_cast<double>(samples.size());
}
array<double> doubled(array<double> samples) {
  auto result = shmpool::make_array_like(samples);
  for (std::size_t i = 0; i != samples.size(); ++i) result[i] = 2 * samples[i];
  return result;
}

TEST(arrays, task_functions_can_be_called_directly) {
  EXPECT_EQ(mean(make_array<double>(10, 4.0)), 4.0);
  EXPECT_EQ(mean(doubled(make_array<double>(10, 4.0).clone())), 8.0);
}

}  // namespace
