// Names, files and mappings of segments: the calls that the store in the parent and the segment table in a worker
// share. Every resource has one owner here.
//
// Thread safety: functions without state; a mapping is a value.
#pragma once

#include "process/unique_fd.hpp"
#include "shm/reserve.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace shmpool::shm {

/// A mapping and its owner. Mappings of 2 MiB and more start at a 2 MiB boundary, so that huge pages fit.
class mapping {
 public:
  mapping() noexcept = default;
  mapping(mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  mapping& operator=(mapping other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~mapping();
  std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  explicit operator bool() const noexcept { return data_ != nullptr; }

  /// Maps `size` bytes of `fd` shared, for reading only or for writing too. Core files leave it out, unless `dumped`.
  static mapping map(int fd, std::size_t size, bool writable, std::error_code& error, bool dumped = false) noexcept;

 private:
  mapping(std::byte* data, std::size_t size) noexcept : data_(data), size_(size) {}
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Where segments and lock files live; "/dev/shm".
const char* shm_directory() noexcept;
/// "shmpool.<uid>.<pool id as 16 hex digits>.<segment id>", without a slash.
std::string segment_name(std::uint64_t pool_id, std::uint64_t segment_id);

/// Bytes that can still be put into the shm directory; null if there is no such directory, or it is not in memory.
std::optional<std::uint64_t> free_space() noexcept;

/// Creates a named segment file of `capacity` bytes: O_EXCL, mode 0600. ENOSPC and the like are returned.
unique_fd create_named(const std::string& name, std::size_t capacity, std::error_code& error) noexcept;
/// Opens a named file for reading only or for writing too.
unique_fd open_named(const std::string& name, bool writable, std::error_code& error) noexcept;
/// Unlinks a name; a missing name is not an error.
void unlink_named(const std::string& name) noexcept;
/// Gives a file another name, in place of a file that may have it.
std::error_code rename_named(const std::string& from, const std::string& to) noexcept;
/// Creates a memfd of `capacity` bytes, sealed against shrinking and growing.
unique_fd create_memfd(std::uint64_t segment_id, std::size_t capacity, std::error_code& error) noexcept;

/// Removes every name of these pools, lock files last. For the fork server, when the parent is dead. Returns how many
/// segments it removed.
std::size_t unlink_pools(std::vector<std::uint64_t> pool_ids) noexcept;
inline std::size_t unlink_pool(std::uint64_t pool_id) {
  return unlink_pools({pool_id});
}

}  // namespace shmpool::shm
