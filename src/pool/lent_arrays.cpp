#include "pool/lent_arrays.hpp"

#include "shm/store.hpp"

#include <algorithm>

namespace shmpool::pool {

namespace {

shm::pool_segment& segment_of(const detail::attachment& of) noexcept {
  return static_cast<shm::pool_segment&>(*of.handle.get());
}

bool writes(const detail::attachment& each) noexcept {
  return each.mode != detail::access::read;
}

}  // namespace

void lent_arrays::register_all() {
  for (std::size_t i = 0; i != all_.size(); ++i) {
    bool lent = false;
    try {
      lent = shm::begin_lend(segment_of(all_[i]), all_[i].offset, all_[i].length, writes(all_[i]));
    } catch (...) {
      give_back(i);
      throw;
    }
    if (lent) continue;
    const bool own = overlaps_own(i);
    give_back(i);
    detail::throw_array_busy(own);
  }
}

void lent_arrays::give_back(std::size_t count) noexcept {
  while (count-- != 0)
    shm::end_lend(segment_of(all_[count]), all_[count].offset, all_[count].length, writes(all_[count]));
}

bool lent_arrays::overlaps_own(std::size_t next) const noexcept {
  return std::any_of(all_.begin(), all_.begin() + static_cast<std::ptrdiff_t>(next), [&](const auto& each) {
    return each.handle == all_[next].handle && (writes(each) || writes(all_[next])) &&
           detail::ranges_overlap(each.offset, each.length, all_[next].offset, all_[next].length);
  });
}

std::uint64_t lent_arrays::first_mapped_by() const noexcept {
  std::uint64_t warm = 0;
  for (const detail::attachment& each : all_) {
    if (warm = segment_of(each).file().mapped_by(); warm != 0) break;
  }
  return warm;
}

}  // namespace shmpool::pool
