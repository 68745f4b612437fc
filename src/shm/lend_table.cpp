#include "shm/lend_table.hpp"

#include "process/assert.hpp"

#include <shmpool/detail/attachment.hpp>

#include <bit>
#include <iterator>
#include <limits>
#include <utility>

namespace shmpool::shm {

unsigned lend_table::class_of(std::uint64_t length, bool write) noexcept {
  return write ? written : static_cast<unsigned>(std::bit_width(length)) - 1;
}

bool lend_table::is_written(std::uint64_t offset, std::uint64_t length) const noexcept {
  const auto overlaps = [&](const range& other) {
    return other.size_class == written && detail::ranges_overlap(offset, length, other.offset, other.length);
  };
  const auto behind = ranges_.upper_bound({written, offset, std::numeric_limits<std::uint64_t>::max()});
  if (behind != ranges_.end() && overlaps(behind->first)) return true;
  return behind != ranges_.begin() && overlaps(std::prev(behind)->first);
}

bool lend_table::is_read(std::uint64_t offset, std::uint64_t length) const noexcept {
  for (std::uint64_t classes = read_classes_; classes != 0; classes &= classes - 1) {
    if (is_read(static_cast<unsigned>(std::countr_zero(classes)), offset, length)) return true;
  }
  return false;
}

bool lend_table::is_read(unsigned size_class, std::uint64_t offset, std::uint64_t length) const noexcept {
  // A range that begins further back is too short to reach here.
  const std::uint64_t longest = (std::uint64_t{2} << size_class) - 1;
  const std::uint64_t first = offset > longest ? offset - longest : 0;
  for (auto each = ranges_.lower_bound({size_class, first, 0}); each != ranges_.end(); ++each) {
    const range& other = each->first;
    if (other.size_class != size_class) return false;
    if (detail::ranges_overlap(offset, length, other.offset, other.length)) return true;
    if (other.offset > offset) return false;  // it begins behind the end, as do all that follow
  }
  return false;
}

bool lend_table::lend(std::uint64_t offset, std::uint64_t length, bool write) {
  if (length == 0) return true;
  if (is_written(offset, length) || (write && is_read(offset, length))) return false;
  const range made{class_of(length, write), offset, length};
  const auto at = ranges_.lower_bound(made);
  if (at != ranges_.end() && at->first == made) {
    ++at->second;
    return true;
  }
  if (spare_) {
    spare_.key() = made;
    spare_.mapped() = 1;
    ranges_.insert(at, std::move(spare_));
  } else {
    ranges_.emplace_hint(at, made, 1);
  }
  if (!write) read_classes_ |= std::uint64_t{1} << made.size_class;
  return true;
}

void lend_table::give_back(std::uint64_t offset, std::uint64_t length, bool write) noexcept {
  if (length == 0) return;
  const auto found = ranges_.find({class_of(length, write), offset, length});
  SHMPOOL_ASSERT(found != ranges_.end());  // only lent ranges are given back
  if (found == ranges_.end() || --found->second != 0) return;
  spare_ = ranges_.extract(found);
  if (ranges_.empty()) read_classes_ = 0;
}

void lend_table::clear() noexcept {
  ranges_.clear();
  read_classes_ = 0;
}

}  // namespace shmpool::shm
