// Where the memory for arrays comes from, in the application and in a worker.
//
// Thread safety: as the implementation: the pool's store may be used by any thread, a worker's by that of its task.
#pragma once

#include <shmpool/shm_handle.hpp>

#include <cstddef>
#include <cstdint>

namespace shmpool::detail {

/// Where a packer gets shared memory from: the pool's store in the parent, the worker's leases in a worker.
class segment_source {
 public:
  /// A segment of at least `bytes` bytes, mapped and writable, aligned to `alignment` (at most a page). Throws
  /// std::system_error(errc::shm_exhausted) if there is no room.
  virtual shm_handle allocate(std::size_t bytes, std::size_t alignment) = 0;
  /// True if the receiver can be given a reference to this segment; otherwise its bytes must be copied.
  virtual bool can_lend(const shm_handle& handle) const noexcept = 0;
  /// Claims a range of a segment for a look at it in this process; false while a task may write there. Every claim is
  /// given back with end_read().
  virtual bool begin_read(const shm_handle&, std::uint64_t /*offset*/, std::uint64_t /*length*/) { return true; }
  virtual void end_read(const shm_handle&, std::uint64_t /*offset*/, std::uint64_t /*length*/) noexcept {}

 protected:
  ~segment_source() = default;
};

}  // namespace shmpool::detail
