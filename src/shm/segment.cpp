// Files and mappings of one segment in the parent, and its lends. The store decides who holds it and what becomes of
// it.
#include "shm/segment.hpp"

#include "process/fault_point.hpp"
#include "process/mutex.hpp"
#include "shm/store.hpp"

#include <shmpool/error.hpp>

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

namespace shmpool::shm {

file_segment::file_segment(std::shared_ptr<store> owner, std::uint64_t pool_id, std::uint64_t id, bool named,
                           std::size_t capacity, std::size_t reserved, bool dumped)
    : pool_segment(*this, id),
      pool_id_(pool_id),
      capacity_(capacity),
      reserved_(reserved),
      name_(named ? segment_name(pool_id, id) : std::string{}),
      dumped_(dumped),
      owner_(std::move(owner)) {
  size_ = reserved;
}

void file_segment::unlink() noexcept {
  if (!name_.empty()) unlink_named(name_);
}

call_error file_segment::create(bool memfd) noexcept {
  std::error_code error;
  unique_fd fd;
  if (memfd) {
    unlink();
    name_.clear();
    fd = create_memfd(id(), capacity_, error);
    if (error) return {"memfd_create", error};
  } else {
    // Asking first keeps one hopeless request from filling the machine's memory up to the bound.
    if (free_space().value_or(reserved_) < reserved_) return {"statfs", {ENOSPC, std::system_category()}};
    fd = create_named(name_, capacity_, error);
    SHMPOOL_FAULT_POINT("parent.segment_named");
    if (error) return {"open to create", error};
  }
  call_error failed;
  mapping where = mapping::map(fd.get(), capacity_, true, error, dumped_);
  if (error) failed = {"mmap", error};
  else if ((error = reserve(fd.get(), where, 0, reserved_))) failed = {"fallocate", error};
  if (failed) {
    unlink();
    return failed;
  }
  if (memfd) memfd_ = std::move(fd);
  else kept_.keep(std::move(fd));
  mapping_ = std::move(where);
  data_ = mapping_.data();
  size_ = existing_ = reserved_;
  mark_created();
  return {};
}

void file_segment::open_name(unique_fd& fd, std::error_code& error) noexcept {
  fd = open_named(name_, true, error);
  if (error == std::errc::no_such_file_or_directory) nameless_.store(true, std::memory_order_release);
}

call_error file_segment::find_descriptor(int& fd) noexcept {
  fd = memfd_.get();
  if (memfd_) return {};
  const mutex_lock lock(lends_mutex_);
  if (!kept_) {
    std::error_code error;
    unique_fd opened;
    open_name(opened, error);
    if (error) return {"open", error};
    kept_.keep(std::move(opened), true);
  } else {
    still_named();
  }
  fd = kept_.get();
  return {};
}

bool file_segment::found_nameless(monotonic_clock::time_point now) noexcept {
  if (name_.empty()) return false;
  const mutex_lock lock(lends_mutex_);
  if (kept_) return false;
  if (now >= look_due_) {
    look_due_ = now + std::chrono::milliseconds(100);
    unique_fd opened;
    std::error_code error;
    open_name(opened, error);
  }
  return nameless();
}

bool file_segment::still_named() noexcept {
  if (name_.empty() || !created()) return true;
  if (nameless()) return false;
  if (kept_) {
    struct stat info {};
    if (::fstat(kept_.get(), &info) == 0 && info.st_nlink == 0) nameless_.store(true, std::memory_order_release);
  } else {
    unique_fd opened;
    std::error_code error;
    open_name(opened, error);
    kept_.keep(std::move(opened));
  }
  return !nameless();
}

call_error file_segment::map(std::size_t bytes) noexcept {
  if (mapped() && bytes <= existing_) return {};
  if (bytes > reserved_) return {"", make_error_code(errc::protocol_violation)};
  std::error_code error;
  unique_fd opened;
  if (!memfd_ && !kept_) {
    open_name(opened, error);
    if (error) return {"open", error};
  }
  const int fd = memfd_ ? memfd_.get() : kept_ ? kept_.get() : opened.get();
  struct stat info {};
  if (::fstat(fd, &info) != 0) return {"fstat", {errno, std::system_category()}};
  if (!S_ISREG(info.st_mode) || static_cast<std::size_t>(info.st_size) < capacity_) {
    return {"", make_error_code(errc::protocol_violation)};
  }
  mapping fresh;
  if (!mapping_) {
    fresh = mapping::map(fd, capacity_, true, error, dumped_);
    if (error) return {"mmap", error};
  }
  const std::size_t blocks = static_cast<std::size_t>(info.st_blocks) * 512;
  std::size_t existing = std::min(blocks, reserved_);
  if (existing < bytes) {
    error = reserve(fd, mapping_ ? mapping_ : fresh, existing_, bytes);
    if (error) return {"fallocate", error};
    existing = (bytes + page_bytes - 1) / page_bytes * page_bytes;
  }
  if (fresh) mapping_ = std::move(fresh);
  if (opened) kept_.keep(std::move(opened));
  data_ = mapping_.data();
  size_ = existing_ = std::max(existing_, existing);
  return {};
}

void file_segment::last_release() noexcept {
  if (give_up()) store::released(*this);
}

bool begin_lend(pool_segment& segment, std::uint64_t offset, std::uint64_t length, bool write) {
  const mutex_lock lock(segment.file().lends_mutex_);
  return segment.lends_.lend(offset, length, write);
}

void end_lend(pool_segment& segment, std::uint64_t offset, std::uint64_t length, bool write) noexcept {
  const mutex_lock lock(segment.file().lends_mutex_);
  segment.lends_.give_back(offset, length, write);
}

}  // namespace shmpool::shm
