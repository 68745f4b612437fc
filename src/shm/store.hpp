// The store of one pool's shared memory: it makes segments, counts who uses them (in this process's heap, never in
// memory that a worker can write), keeps freed ones warm for the next user, and removes their names.
//
// Thread safety: all members may be called from any thread. A process that the application forks has an inert copy: it
// frees nothing, and allocate() and lease() throw errc::pool_closed there.
#pragma once

#include "process/clock.hpp"
#include "shm/arena.hpp"
#include "shm/segment.hpp"

#include <shmpool/backend.hpp>
#include <shmpool/detail/segment_source.hpp>
#include <shmpool/shm_handle.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace shmpool::shm {

struct store_options {
  shmpool::backing backing = backing::automatic;
  std::size_t max_bytes = 0;    ///< budget over live and cached segments, 0: none
  std::size_t cache_bytes = 0;  ///< bound of the cache
  std::chrono::milliseconds cache_idle = std::chrono::seconds{30};
  bool dump = false;            ///< core files of this process have its segments
  std::size_t arena_bytes = 0;  ///< segments of at most this many bytes share files; at most largest_block
};

struct store_stats {
  std::size_t live_segments = 0, cached_segments = 0;
  std::uint64_t live_bytes = 0, cached_bytes = 0;  ///< reserved bytes
  std::uint64_t peak_bytes = 0;                    ///< most of live + cached so far
  bool memfd_used = false;                         ///< at least one segment is a memfd
};

/// Collects the ids of segments that were freed for good, so that its owner can tell other processes to unmap them.
/// Thread-safe.
class freed_mailbox {
 public:
  virtual ~freed_mailbox() = default;
  virtual void freed(std::uint64_t segment_id) noexcept = 0;
};

class store final : public detail::segment_source, public std::enable_shared_from_this<store> {
 public:
  /// Takes a random pool id, creates and locks the pool's lock file (where /dev/shm can be used), and reaps the orphans
  /// of dead pools. Throws std::system_error if `backing` is posix and /dev/shm cannot be used.
  static std::shared_ptr<store> open(const store_options& options);
  ~store();

  std::uint64_t pool_id() const noexcept;

  /// A mapped, writable segment of at least `bytes` (> 0) bytes whose pages all exist: a block of an arena if it is
  /// small, otherwise one from the cache where one of its size class is free (last freed first), or a new one. Throws
  /// std::system_error(errc::shm_exhausted), with a text that says whether the budget or the file system is full, by
  /// how much, and what to do.
  shm_handle allocate(std::size_t bytes, std::size_t alignment) override;

  /// A segment for a worker to put a result in: a block of an arena if it is small; otherwise preferably a cached one
  /// that `worker` has mapped already. Where it has to be new and named, only its name and its place in the budget are
  /// taken (created() is false, it is not mapped here): the worker creates the file and reserve()s at most reserved()
  /// bytes of it, so that this thread does not pay for the pages. Every other segment comes with its pages: a memfd is
  /// created here, and mapped. `avoid_posix` says that the worker could not create a file in /dev/shm, as it is full or
  /// out of its reach: it gets a memfd, or, where the pool insists on names, a named segment that is created here.
  /// Throws as allocate().
  shm_handle lease(std::size_t bytes, std::uint32_t worker, bool avoid_posix = false);

  /// A free block, or a cached segment whose first `bytes` bytes exist, `worker`'s own if there is one; otherwise null,
  /// also when the store is closed. Makes no system call that allocates. For leases made in advance.
  shm_handle lease_cached(std::size_t bytes, std::uint32_t worker) noexcept;

  /// True for a segment of any store of this process, also after that store was closed.
  bool can_lend(const shm_handle& handle) const noexcept override;
  bool begin_read(const shm_handle& handle, std::uint64_t offset, std::uint64_t length) override;
  void end_read(const shm_handle& handle, std::uint64_t offset, std::uint64_t length) noexcept override;

  /// More than half of the budget is taken by live segments.
  bool tight() const noexcept;

  /// Frees the cached segments; returns how many were freed and how many are still held.
  clear_result clear() noexcept;
  /// Frees cached segments that have been unused for longer than cache_idle, and makes a lock file again that somebody
  /// has removed. Cheap if called often.
  void trim(monotonic_clock::time_point now) noexcept;
  /// From here on a segment's last release frees it; cached segments are freed now. Handles stay valid. allocate() and
  /// lease() throw errc::pool_closed. Idempotent.
  void close() noexcept;

  /// `mailbox` hears of every segment of this store that is freed from now on, as long as it lives.
  void subscribe(std::weak_ptr<freed_mailbox> mailbox);

  store_stats stats() const;

 private:
  friend class file_segment;
  friend class block_segment;
  struct impl;
  explicit store(std::unique_ptr<impl> state) noexcept;
  /// The last reference to `segment` was dropped.
  static void released(file_segment& segment) noexcept;
  static void released(block_segment& segment) noexcept;

  void require_usable(std::size_t bytes) const;
  /// Whether a segment of so many bytes is small enough for an arena.
  bool is_small(std::size_t bytes) const noexcept;
  /// A free block that workers can get at; null if there is none.
  shm_handle take_free_block(std::size_t length) noexcept;
  /// How long the file of the next arena of such blocks is to be; 0: the budget is too small for one.
  std::size_t next_arena(std::size_t length) const noexcept;
  /// A block of a new arena in this file.
  shm_handle take_first_block(shm_handle file, std::size_t length);
  /// A block of an arena, perhaps a new one; null if the segment is not to be one, or there is no room for an arena.
  shm_handle take_block(std::size_t bytes, std::size_t alignment);
  /// allocate() for what gets a file of its own.
  shm_handle allocate_file(std::size_t bytes);
  /// A new segment that has its place in the budget and nothing else.
  shm_handle grant(std::size_t bytes, bool named);
  /// The same with its file, mapping and pages.
  shm_handle create(std::size_t bytes, bool named);
  /// A cached segment as lease_cached() returns them; null if there is none.
  shm_handle take_cached(std::size_t bytes, std::uint32_t worker) noexcept;
  /// A cached segment that has `bytes` bytes, mapped if that is asked for; otherwise null.
  shm_handle take_warm(std::size_t bytes, std::optional<std::uint32_t> worker, bool mapped);
  shm_handle hand_out(file_segment& segment) noexcept;

  std::unique_ptr<impl> impl_;
};

/// Registers the range for a task: true, or false if it overlaps a range registered by another task (or by this one)
/// and one of the two is for writing. `segment` may belong to any store of the process. Ranges of length 0 never
/// conflict.
bool begin_lend(pool_segment& segment, std::uint64_t offset, std::uint64_t length, bool write);
/// Removes one equal range.
void end_lend(pool_segment& segment, std::uint64_t offset, std::uint64_t length, bool write) noexcept;

}  // namespace shmpool::shm
