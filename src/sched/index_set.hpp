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

  void insert(index_type index) noexcept { words_[index / bits] |= bit(index); }
  void erase(index_type index) noexcept { words_[index / bits] &= ~bit(index); }

  bool empty() const noexcept { return next(0) == no_index; }
  /// The least index in the set that is not less than `from`, or no_index.
  index_type next(index_type from) const noexcept {
    std::uint64_t rest = ~std::uint64_t{0} << from % bits;
    for (std::size_t at = from / bits; at < words_.size(); ++at) {
      if ((words_[at] & rest) != 0) return static_cast<index_type>(at * bits) + static_cast<index_type>(std::countr_zero(words_[at] & rest));
      rest = ~std::uint64_t{0};
    }
    return no_index;
  }

 private:
  static constexpr index_type bits = 64;
  static std::uint64_t bit(index_type index) noexcept { return std::uint64_t{1} << index % bits; }

  std::vector<std::uint64_t> words_;
};

}  // namespace shmpool::sched
