// A set of small numbers, such as the places of workers in their table: a bit for each.
//
// Thread safety: none.
#pragma once

#include "sched/task_table.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace shmpool::sched {

class index_set {
 public:
  /// Indexes below `count` can be inserted from here.
  void reserve(std::size_t count) {
    if (words_.size() * bits < count) words_.resize((count + bits - 1) / bits);
  }

  void insert(index_type index) noexcept {
    std::uint64_t& word = words_[index / bits];
    if ((word & bit(index)) != 0) return;
    word |= bit(index);
    ++size_;
  }
  void erase(index_type index) noexcept {
    std::uint64_t& word = words_[index / bits];
    if ((word & bit(index)) == 0) return;
    word &= ~bit(index);
    --size_;
  }

  bool empty() const noexcept { return size_ == 0; }
  /// The least index in the set that is not less than `from`, or no_index.
  index_type next(index_type from) const noexcept {
    std::uint64_t rest = ~std::uint64_t{0} << from % bits;
    for (std::size_t at = from / bits; at < words_.size(); ++at) {
      const std::uint64_t found = words_[at] & rest;
      if (found != 0) return static_cast<index_type>(at * bits) + static_cast<index_type>(std::countr_zero(found));
      rest = ~std::uint64_t{0};
    }
    return no_index;
  }

 private:
  static constexpr index_type bits = 64;
  static std::uint64_t bit(index_type index) noexcept { return std::uint64_t{1} << index % bits; }

  std::vector<std::uint64_t> words_;
  std::size_t size_ = 0;
};

}  // namespace shmpool::sched
