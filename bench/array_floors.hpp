// The least that the work of array_bench costs in this process: the loop on memory that was used before, the same where
// what it writes is new memory each time, as it is from an allocator that gives large blocks back, and one memcpy.
#pragma once

#include "array_tasks.hpp"
#include "memory.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <span>

namespace bench {

/// Floors are built from the number of elements and do the work once per call, which tells whether the result is right.
class input {
 public:
  explicit input(std::size_t count) : x_(count) { std::ranges::fill(x_.in_huge_pages().span(), 1.0); }
  std::span<double> x() const { return x_.span(); }

 protected:
  static bool is(std::span<const double> y, double value) { return y.front() == value && y.back() == value; }
  // Half of the work lies where nobody reads it, for all that the compiler knows.
  static void keep(std::span<const double> y) {
    const double* data = y.data();
    asm volatile("" : : "g"(data) : "memory");
  }

 private:
  memory x_;
};

class input_and_output : public input {
 public:
  explicit input_and_output(std::size_t count) : input(count), y_(count) {
    std::ranges::fill(y_.in_huge_pages().span(), 0.0);
  }
  std::span<double> y() const { return y_.span(); }

 private:
  memory y_;
};

struct warm_add_one : input_and_output {
  using input_and_output::input_and_output;
  bool operator()() {
    add_one_to(x(), y());
    keep(y());
    return is(y(), 2);
  }
};

struct fresh_add_one : input {
  using input::input;
  bool operator()() {
    const memory y(x().size());
    add_one_to(x(), y.span());
    keep(y.span());
    return is(y.span(), 2);
  }
};

struct warm_copy : input_and_output {
  using input_and_output::input_and_output;
  bool operator()() {
    std::memcpy(y().data(), x().data(), x().size_bytes());
    keep(y());
    return is(y(), 1);
  }
};

struct warm_sum : input {
  using input::input;
  bool operator()() {
    keep(x());
    return sum(x()) == static_cast<double>(x().size());
  }
};

struct warm_in_place : input {
  using input::input;
  bool operator()() {
    add_one_in_place(x());
    keep(x());
    return is(x(), expected += 1);
  }
  double expected = 1;
};

/// For arguments that are not in shared memory: they have to be copied, once.
struct warm_copy_and_add_one : input_and_output {
  explicit warm_copy_and_add_one(std::size_t count) : input_and_output(count), copy(count) {
    std::ranges::fill(copy.in_huge_pages().span(), 0.0);
  }
  bool operator()() {
    std::memcpy(copy.span().data(), x().data(), x().size_bytes());
    keep(copy.span());
    add_one_to(copy.span(), y());
    keep(y());
    return is(y(), 2);
  }
  memory copy;
};

struct fresh_copy_and_add_one : input {
  using input::input;
  bool operator()() {
    const memory copy(x().size()), y(x().size());
    std::memcpy(copy.span().data(), x().data(), x().size_bytes());
    keep(copy.span());
    add_one_to(copy.span(), y.span());
    keep(y.span());
    return is(y.span(), 2);
  }
};

/// So many arrays share the bytes of a dictionary.
inline constexpr std::size_t dictionary_entries = 8;

template <class Floor>
struct eight_times {
  explicit eight_times(std::size_t count)
      : parts{Floor(count), Floor(count), Floor(count), Floor(count),
              Floor(count), Floor(count), Floor(count), Floor(count)} {}
  bool operator()() {
    bool right = true;
    for (Floor& part : parts) right = part() && right;
    return right;
  }
  std::array<Floor, dictionary_entries> parts;
};

}  // namespace bench
