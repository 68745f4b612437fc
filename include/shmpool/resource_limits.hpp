// resource_limits: limits for setrlimit(), as a member of the options of a pool. It is a short array, so that its bytes
// are its value: see docs/adr/0012-option-types.md.
//
// Thread safety: distinct objects: safe.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <ranges>
#include <type_traits>
#include <utility>

namespace shmpool {

/// RLIMIT_* with the value for both the soft and the hard limit: written {{RLIMIT_NOFILE, 64}, {RLIMIT_CORE, 0}}, or
/// made from a range of such pairs.
class resource_limits {
 public:
  using value_type = std::pair<int, std::uint64_t>;
  /// As many as there are resources. Further limits are counted and not kept.
  static constexpr std::size_t capacity = 16;

  resource_limits() noexcept = default;
  /// No std::initializer_list: g++ 12 does not compile one in a co_await.
  resource_limits(value_type a, value_type b = none, value_type c = none, value_type d = none, value_type e = none,
                  value_type f = none, value_type g = none, value_type h = none, value_type i = none,
                  value_type j = none, value_type k = none, value_type l = none, value_type m = none,
                  value_type n = none, value_type o = none, value_type p = none) noexcept {
    for (const value_type& each : {a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p}) {
      if (each != none) push_back(each);
    }
  }
  template <std::ranges::input_range Range>
    requires(!std::same_as<std::remove_cvref_t<Range>, resource_limits> &&
             std::convertible_to<std::ranges::range_reference_t<const Range&>, value_type>)
  resource_limits(const Range& limits) {
    for (const auto& each : limits) push_back(each);
  }

  void push_back(const value_type& limit) noexcept {
    if (size_ < capacity) limits_[size_] = limit;
    ++size_;
  }
  void assign(std::size_t count, const value_type& limit) noexcept {
    clear();
    while (size_ < count && size_ < capacity) push_back(limit);
    size_ = count;
  }
  void clear() noexcept { size_ = 0; }

  /// Number of limits that were given, also beyond the capacity.
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  const value_type* begin() const noexcept { return limits_.data(); }
  const value_type* end() const noexcept { return limits_.data() + std::min(size_, capacity); }
  const value_type& operator[](std::size_t index) const noexcept { return limits_[index]; }
  value_type& operator[](std::size_t index) noexcept { return limits_[index]; }

  bool operator==(const resource_limits& other) const noexcept {
    return size_ == other.size_ && std::equal(begin(), end(), other.begin());
  }

 private:
  static constexpr value_type none{std::numeric_limits<int>::min(), 0};

  std::array<value_type, capacity> limits_{};
  std::size_t size_ = 0;
};

}  // namespace shmpool
