// The arrays that a task is lent: held, and registered with their segments, so that no other task gets what would race.
//
// Thread safety: none; a value.
#pragma once

#include <shmpool/detail/message.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace shmpool::pool {

class lent_arrays {
 public:
  lent_arrays() noexcept = default;
  /// Registers all of them. Throws std::system_error(errc::array_busy), and none is then.
  explicit lent_arrays(std::vector<detail::attachment> all) : all_(std::move(all)) {
    if (!all_.empty()) register_all();
  }
  lent_arrays(lent_arrays&& other) noexcept : all_(std::exchange(other.all_, {})) {}
  lent_arrays& operator=(lent_arrays&& other) noexcept {
    std::swap(all_, other.all_);
    return *this;
  }
  ~lent_arrays() { clear(); }

  /// Gives them back.
  void clear() noexcept {
    if (all_.empty()) return;
    give_back(all_.size());
    all_.clear();
  }

  /// In a forked copy: they are the original's to give back, and a lock may be held by a thread that is not there.
  void forget() noexcept { all_.clear(); }

  std::span<const detail::attachment> all() const noexcept { return all_; }
  bool empty() const noexcept { return all_.empty(); }
  /// How many bytes they have.
  std::uint64_t bytes() const noexcept {
    std::uint64_t sum = 0;
    for (const detail::attachment& each : all_) sum += each.length;
    return sum;
  }
  /// Which workers have the first of them mapped that any has: bit (worker id modulo 64).
  std::uint64_t mapped_by() const noexcept { return all_.empty() ? 0 : first_mapped_by(); }

 private:
  void register_all();
  std::uint64_t first_mapped_by() const noexcept;
  /// True if it is another argument of the same call that is in the way of the next.
  bool overlaps_own(std::size_t next) const noexcept;
  void give_back(std::size_t count) noexcept;

  std::vector<detail::attachment> all_;
};

}  // namespace shmpool::pool
