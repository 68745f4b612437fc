// The arrays that a task is lent: held, and registered with their segments, so that no other task gets access that
// would race.
//
// Thread safety: none; a value.
#pragma once

#include <shmpool/detail/attachment.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace shmpool::pool {

class lent_arrays {
 public:
  lent_arrays() noexcept = default;
  /// Registers all arrays, or throws std::system_error(errc::array_busy) and registers none.
  explicit lent_arrays(std::vector<detail::attachment> all) : all_(std::move(all)) {
    if (!all_.empty()) register_all();
  }
  lent_arrays(lent_arrays&& other) noexcept : all_(std::exchange(other.all_, {})) {}
  lent_arrays& operator=(lent_arrays&& other) noexcept {
    std::swap(all_, other.all_);
    return *this;
  }
  ~lent_arrays() { clear(); }

  /// Gives the arrays back.
  void clear() noexcept {
    if (all_.empty()) return;
    give_back(all_.size());
    all_.clear();
  }

  /// For a forked copy: the original process gives the arrays back, and a thread that the copy does not have may hold a
  /// lock.
  void forget() noexcept { all_.clear(); }

  std::span<const detail::attachment> all() const noexcept { return all_; }
  bool empty() const noexcept { return all_.empty(); }
  /// Length of all arrays, in bytes.
  std::uint64_t bytes() const noexcept {
    std::uint64_t sum = 0;
    for (const detail::attachment& each : all_) sum += each.length;
    return sum;
  }
  /// The workers that have mapped the first array that any worker has mapped: bit (worker id modulo 64).
  std::uint64_t mapped_by() const noexcept { return all_.empty() ? 0 : first_mapped_by(); }

 private:
  void register_all();
  std::uint64_t first_mapped_by() const noexcept;
  /// True if array `next` conflicts with an earlier argument of the same call.
  bool overlaps_own(std::size_t next) const noexcept;
  void give_back(std::size_t count) noexcept;

  std::vector<detail::attachment> all_;
};

}  // namespace shmpool::pool
