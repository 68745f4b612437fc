// Files and mappings of one segment in the parent, and its lends. Who holds it and what becomes of it is the store's
// business.
#include "shm/segment.hpp"

#include "fault_point.hpp"
#include "shm/store.hpp"

#include <shmpool/error.hpp>

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

namespace shmpool::shm {

pool_segment::pool_segment(std::shared_ptr<store> owner, std::uint64_t pool_id, std::uint64_t id, bool named,
                           std::size_t capacity, std::size_t reserved)
    : segment(kind::pool, id),
      pool_id_(pool_id),
      capacity_(capacity),
      reserved_(reserved),
      name_(named ? segment_name(pool_id, id) : std::string{}),
      owner_(std::move(owner)) {
  size_ = reserved;
}

void pool_segment::unlink() noexcept {
  if (!name_.empty()) unlink_named(name_);
}

std::error_code pool_segment::create(bool memfd) noexcept {
  std::error_code error;
  unique_fd fd;
  if (memfd) {
    unlink();
    name_.clear();
    fd = create_memfd(id(), capacity_, error);
  } else {
    // Asking first keeps one hopeless request from filling the machine's memory up to the bound.
    if (free_space().value_or(reserved_) < reserved_) return {ENOSPC, std::system_category()};
    fd = create_named(name_, capacity_, error);
    SHMPOOL_FAULT_POINT("parent.segment_named");
  }
  if (error) return error;
  mapping where = mapping::map(fd.get(), capacity_, true, error);
  if (!error) error = reserve(fd.get(), where, 0, reserved_);
  if (error) {
    unlink();
    return error;
  }
  if (memfd) memfd_ = std::move(fd);
  mapping_ = std::move(where);
  data_ = mapping_.data();
  size_ = existing_ = reserved_;
  mark_created();
  return {};
}

std::error_code pool_segment::map(std::size_t bytes) noexcept {
  if (mapped() && bytes <= existing_) return {};
  if (bytes > reserved_) return make_error_code(errc::protocol_violation);
  std::error_code error;
  unique_fd opened;
  if (!memfd_) {
    opened = open_named(name_, true, error);
    if (error) return error;
  }
  const int fd = memfd_ ? memfd_.get() : opened.get();
  struct stat info {};
  if (::fstat(fd, &info) != 0) return {errno, std::system_category()};
  if (!S_ISREG(info.st_mode) || static_cast<std::size_t>(info.st_size) < capacity_) {
    return make_error_code(errc::protocol_violation);
  }
  mapping fresh;
  if (!mapping_) {
    fresh = mapping::map(fd, capacity_, true, error);
    if (error) return error;
  }
  const std::size_t blocks = static_cast<std::size_t>(info.st_blocks) * 512;
  std::size_t existing = std::min(blocks, reserved_);
  if (existing < bytes) {
    error = reserve(fd, mapping_ ? mapping_ : fresh, existing_, bytes);
    if (error) return error;
    existing = (bytes + page_bytes - 1) / page_bytes * page_bytes;
  }
  if (fresh) mapping_ = std::move(fresh);
  data_ = mapping_.data();
  size_ = existing_ = std::max(existing_, existing);
  return {};
}

void pool_segment::last_release() noexcept {
  if (give_up()) store::released(*this);
}

bool begin_lend(pool_segment& segment, std::uint64_t offset, std::uint64_t length, bool write) {
  if (length == 0) return true;
  const auto overlaps = [&](const pool_segment::lend& other) {
    // Differences, because the ends of a range could overflow.
    const bool meets = offset <= other.offset ? other.offset - offset < length : offset - other.offset < other.length;
    return meets && (write || other.write);
  };
  const std::lock_guard lock{segment.lends_mutex_};
  if (std::any_of(segment.lends_.begin(), segment.lends_.end(), overlaps)) return false;
  segment.lends_.push_back({offset, length, write});
  return true;
}

void end_lend(pool_segment& segment, std::uint64_t offset, std::uint64_t length, bool write) noexcept {
  const std::lock_guard lock{segment.lends_mutex_};
  auto& lends = segment.lends_;
  const auto found = std::find(lends.begin(), lends.end(), pool_segment::lend{offset, length, write});
  if (found == lends.end()) return;
  *found = lends.back();
  lends.pop_back();
}

}  // namespace shmpool::shm
