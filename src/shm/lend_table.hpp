// The ranges of one segment that tasks have been lent: any number of tasks may read a range, but where one writes there
// is nobody else. Ranges that are the same take one entry, and a lend takes time like the logarithm of the number of
// entries. Only where read ranges overlap each other, to write behind them takes time for each that reaches that far
// back.
//
// Decides only; it does no I/O. Thread safety: none.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>

namespace shmpool::shm {

class lend_table {
 public:
  /// False, and nothing has changed, if two tasks would race. A range without bytes races with nobody. Throws
  /// std::bad_alloc.
  bool lend(std::uint64_t offset, std::uint64_t length, bool write);
  /// Takes back what was lent.
  void give_back(std::uint64_t offset, std::uint64_t length, bool write) noexcept;
  void clear() noexcept;
  bool empty() const noexcept { return ranges_.empty(); }

 private:
  /// Read ranges lie by size: in class n are lengths from 2^n to 2^(n+1) - 1, so that a search knows how far back to
  /// begin. All written ranges are in one class, as no two of them overlap.
  static constexpr unsigned written = 64;
  struct range {
    unsigned size_class;
    std::uint64_t offset, length;
    auto operator<=>(const range&) const = default;
  };
  using entries = std::map<range, std::size_t>;  // and how many tasks have it

  static unsigned class_of(std::uint64_t length, bool write) noexcept;
  bool is_written(std::uint64_t offset, std::uint64_t length) const noexcept;
  bool is_read(std::uint64_t offset, std::uint64_t length) const noexcept;
  bool is_read(unsigned size_class, std::uint64_t offset, std::uint64_t length) const noexcept;

  entries ranges_;
  entries::node_type spare_;        // of the last entry that went: most segments are lent to one task after the other
  std::uint64_t read_classes_ = 0;  // bit n: there may be read ranges of class n
};

}  // namespace shmpool::shm
