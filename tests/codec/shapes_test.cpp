// Arrays of every rank, of no elements, of structs and of over-aligned types: shape and contents are the same on both
// sides, in the message and in a segment, as arguments and as results.
#include "support/round_trip.hpp"

#include <shmpool/serialize.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <complex>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using shmpool::array;
using shmpool::testing::round_trip;
using shmpool::testing::shared_array;

/// No byte is at home in its neighbour's place, nor in that of another seed.
template <class T, std::size_t Rank>
array<T, Rank> filled(array<T, Rank> x, unsigned seed) {
  for (std::byte& each : std::as_writable_bytes(std::span(x.data(), x.size()))) {
    seed = seed * 1664525U + 1013904223U;
    each = static_cast<std::byte>((seed >> 24) & (std::is_same_v<T, bool> ? 1U : 255U));
  }
  return x;
}

template <class T, std::size_t Rank>
std::pair<std::array<std::size_t, Rank>, std::vector<std::byte>> seen(array<const T, Rank> x) {
  const auto bytes = std::as_bytes(std::span(x.data(), x.size()));
  return {x.extents(), {bytes.begin(), bytes.end()}};
}
template <class T, std::size_t Rank>
auto edit(array<T, Rank>& x) {
  auto before = seen<T, Rank>(x);
  filled(x, 2);
  return before;
}
template <class T, std::size_t Rank>
array<T, Rank> pass_on(array<T, Rank> x) {
  return x;
}
template <class T, std::size_t Rank>
array<T, Rank> make_like(array<const T, Rank> x) {
  return filled(shmpool::make_array_like(x), 3);
}
template <class T, std::size_t Rank>
bool aligned(array<const T, Rank> x) {
  return reinterpret_cast<std::uintptr_t>(x.data()) % alignof(T) == 0;
}

/// The whole table for one array: it is looked at, edited, copied, moved there and back, and answered with a new one.
template <class T, std::size_t Rank>
void expect_kept(round_trip& submit, array<T, Rank> x) {
  const auto first = seen<T, Rank>(filled(x, 1));
  EXPECT_EQ((submit(seen<T, Rank>, x)), first);
  EXPECT_TRUE((submit(aligned<T, Rank>, x)));
  const array<T, Rank> copy = submit(pass_on<T, Rank>, x);
  EXPECT_EQ((seen<T, Rank>(copy)), first);
  EXPECT_TRUE((aligned<T, Rank>(copy)));
  EXPECT_EQ((submit(edit<T, Rank>, x)), first);
  const auto edited = seen<T, Rank>(filled(shmpool::make_array_like(x), 2));
  EXPECT_EQ((seen<T, Rank>(x)), edited);
  EXPECT_EQ((seen<T, Rank>(submit(make_like<T, Rank>, x))), (seen<T, Rank>(make_like<T, Rank>(x))));
  EXPECT_EQ((seen<T, Rank>(submit(pass_on<T, Rank>, std::move(x)))), edited);
}

TEST(shapes, ranks_one_to_five) {
  round_trip submit;
  expect_kept(submit, shared_array<float>(7));
  expect_kept(submit, shared_array<float>(1003));
  expect_kept(submit, shared_array<float>(3, 5));
  expect_kept(submit, shared_array<float>(51, 21));
  expect_kept(submit, shared_array<float>(3, 1, 2));
  expect_kept(submit, shared_array<float>(4, 5, 7));
  expect_kept(submit, shared_array<float>(7, 5, 3)[3]);
  expect_kept(submit, shared_array<float>(2, 3, 2, 1));
  expect_kept(submit, shared_array<float>(7, 1, 11, 9));
  expect_kept(submit, shared_array<float>(1, 2, 2, 2, 2));
  expect_kept(submit, shared_array<float>(3, 2, 7, 4, 5));
}

TEST(shapes, arrays_without_elements_keep_their_extents_and_are_no_memory) {
  round_trip submit;
  const auto expect_no_memory = [&submit](auto x) {
    expect_kept(submit, x);
    EXPECT_TRUE(submit.arguments.attachments.empty() && submit.result.attachments.empty());
  };
  expect_no_memory(array<double>());
  expect_no_memory(array<double, 3>());
  expect_no_memory(shared_array<double>(0));
  expect_no_memory(shared_array<double>(3, 0));
  expect_no_memory(shared_array<double>(0, 5, 2));
  expect_no_memory(shared_array<double>(1'000'000'000'000, 0, 1'000'000'000'000));
  // Empty slices of memory that is not.
  const auto x = shared_array<double>(100);
  expect_no_memory(x.rows(100, 100));
  expect_no_memory(x.rows(17, 17));
  EXPECT_EQ(submit.source.allocations, 0);
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
  round_trip submit;
  expect_kept(submit, shared_array<reading>(1));
  expect_kept(submit, shared_array<reading>(100));
  expect_kept(submit, shared_array<reading>(3, 5, 7));
  expect_kept(submit, shared_array<std::complex<double>>(3));
  expect_kept(submit, shared_array<std::complex<double>>(100));
  expect_kept(submit, shared_array<std::array<std::uint8_t, 3>>(100));
  // A field of a record, and a slice of records at an odd offset.
  auto x = filled(shared_array<reading>(100), 1);
  x[51].value = 2.5;
  const auto value = [](array<const reading> rows, std::size_t i) { return rows[i].value; };
  EXPECT_EQ(submit(value, x, std::size_t{51}), 2.5);
  EXPECT_EQ(submit(value, x.rows(51, 90), std::size_t{0}), 2.5);
  expect_kept(submit, x.rows(1, 90));
}

TEST(shapes, every_arithmetic_type_is_an_element) {
  round_trip submit;
  const auto both = [&submit]<class T>(T) {
    expect_kept(submit, shared_array<T>(3));
    expect_kept(submit, shared_array<T>(1000));
    expect_kept(submit, shared_array<T>(1000).rows(7, 995));  // at an offset that is a multiple of nothing
  };
  both(std::int8_t());
  both(std::uint16_t());
  both(std::int32_t());
  both(std::uint64_t());
  both(float());
  both(char32_t());
  both(std::byte());
  both(bool());
}

TEST(shapes, elements_may_be_over_aligned) {
  round_trip submit;
  expect_kept(submit, shared_array<line>(1));
  expect_kept(submit, shared_array<line>(100));
  expect_kept(submit, shared_array<page>(3));
  expect_kept(submit, shared_array<page>(5, 4));
  expect_kept(submit, shared_array<page>(20).rows(7, 20));
  expect_kept(submit, shared_array<line>(20).rows(1, 4));
  // From a vector, whose elements are as aligned in the worker as they were here.
  for (const std::size_t n : {std::size_t{1}, std::size_t{100}}) {
    std::vector<line> vector(n);
    unsigned next = 0;
    for (std::byte& each : std::as_writable_bytes(std::span(vector))) each = static_cast<std::byte>(next += 7);
    EXPECT_TRUE(submit(aligned<line, 1>, vector));
    const auto [extents, bytes] = submit(seen<line, 1>, vector);
    EXPECT_EQ(extents[0], n);
    EXPECT_TRUE(std::ranges::equal(bytes, std::as_bytes(std::span(vector))));
  }
}

}  // namespace
