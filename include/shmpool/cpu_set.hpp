// cpu_set: a set of CPUs, as a member of the options of a pool. It is an array of bits, so that its bytes are its
// value: see docs/adr/0012-option-types.md.
//
// Thread safety: distinct objects: safe.
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <optional>
#include <ranges>
#include <type_traits>

namespace shmpool {

/// A set of CPUs: written {0, 2, 3}, or made from a range of integers. Iterates over the numbers, in order.
class cpu_set {
 public:
  /// Numbers in the set are below this. Any other number is kept as invalid().
  static constexpr int capacity = 1024;

  cpu_set() noexcept = default;
  /// No std::initializer_list: g++ 12 does not compile one in a co_await.
  template <std::integral... Cpus>
    requires(sizeof...(Cpus) != 0)
  cpu_set(Cpus... cpus) noexcept {
    (insert(cpus), ...);
  }
  template <std::ranges::input_range Range>
    requires(!std::same_as<std::remove_cvref_t<Range>, cpu_set> && std::integral<std::ranges::range_value_t<Range>>)
  cpu_set(const Range& cpus) {
    for (const auto& cpu : cpus) insert(cpu);
  }

  template <std::integral Number>
  void insert(Number cpu) noexcept {
    if (cpu >= Number{} && static_cast<std::uintmax_t>(cpu) < std::uintmax_t{capacity}) {
      words_[static_cast<std::size_t>(cpu) / 64] |= std::uint64_t{1} << (static_cast<std::size_t>(cpu) % 64);
    } else {
      has_invalid_ = true;
      const bool fits = static_cast<std::intmax_t>(cpu) >= std::numeric_limits<int>::min() &&
                        static_cast<std::intmax_t>(cpu) <= std::numeric_limits<int>::max();
      invalid_ = fits ? static_cast<int>(cpu) : std::numeric_limits<int>::max();
    }
  }
  /// The same as insert(), under the name that a std::vector of CPUs has for it.
  template <std::integral Number>
  void push_back(Number cpu) noexcept {
    insert(cpu);
  }
  void clear() noexcept { *this = {}; }

  bool contains(int cpu) const noexcept {
    return cpu >= 0 && cpu < capacity && (words_[static_cast<std::size_t>(cpu) / 64] >> (cpu % 64) & 1) != 0;
  }
  /// Number of CPUs in the set, an invalid one not counted.
  std::size_t size() const noexcept {
    std::size_t result = 0;
    for (const std::uint64_t word : words_) result += static_cast<std::size_t>(std::popcount(word));
    return result;
  }
  bool empty() const noexcept { return size() == 0 && !has_invalid_; }
  /// The last number given that cannot be that of a CPU, if any.
  std::optional<int> invalid() const noexcept { return has_invalid_ ? std::optional(invalid_) : std::nullopt; }

  class iterator {
   public:
    using difference_type = std::ptrdiff_t;
    using value_type = int;
    iterator() noexcept = default;
    int operator*() const noexcept { return cpu_; }
    iterator& operator++() noexcept {
      ++cpu_;
      skip();
      return *this;
    }
    iterator operator++(int) noexcept {
      const iterator before = *this;
      ++*this;
      return before;
    }
    bool operator==(const iterator& other) const noexcept { return cpu_ == other.cpu_; }

   private:
    friend class cpu_set;
    iterator(const cpu_set& of, int cpu) noexcept : of_(&of), cpu_(cpu) { skip(); }
    void skip() noexcept {
      while (cpu_ < capacity && !of_->contains(cpu_)) ++cpu_;
    }
    const cpu_set* of_ = nullptr;
    int cpu_ = 0;
  };
  iterator begin() const noexcept { return {*this, 0}; }
  iterator end() const noexcept { return {*this, capacity}; }

  bool operator==(const cpu_set&) const noexcept = default;

 private:
  std::array<std::uint64_t, capacity / 64> words_{};
  int invalid_ = 0;
  bool has_invalid_ = false;
};

}  // namespace shmpool
