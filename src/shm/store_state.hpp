// The state of a store: its lock, its budget, the counts of live segments and the cache of unused ones.
//
// Thread safety: one mutex guards counts and cache. It is a leaf: files, mappings and mailboxes are touched without it,
// by the thread that took a segment out under the mutex and so is its only owner.
#pragma once

#include "process/clock.hpp"
#include "process/mutex.hpp"
#include "shm/arena.hpp"
#include "shm/pool_lock.hpp"
#include "shm/segment_cache.hpp"
#include "shm/store.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

namespace shmpool::shm {

struct store::impl {
  using clock = monotonic_clock;
  using mailbox_list = std::vector<std::weak_ptr<freed_mailbox>>;
  static constexpr clock::rep never = std::numeric_limits<clock::rep>::max();

  impl(const store_options& chosen, std::unique_ptr<pool_lock> locked, bool with_names) noexcept
      : options(chosen), lock(std::move(locked)), names(with_names) {}

  const store_options options;
  const std::unique_ptr<pool_lock> lock;
  const bool names;                         // the shm directory can be used
  std::atomic<bool> closed{false};          // set under the mutex
  std::atomic<clock::rep> trim_due{never};  // until then nothing in the cache is too old
  std::atomic<clock::rep> lock_due{std::numeric_limits<clock::rep>::min()};  // when to look for the lock file next

  mutable shmpool::mutex mutex;
  segment_cache cache SHMPOOL_GUARDED_BY(mutex);
  arena_table arenas SHMPOOL_GUARDED_BY(mutex);
  std::size_t live_segments SHMPOOL_GUARDED_BY(mutex) = 0;
  std::uint64_t live_bytes SHMPOOL_GUARDED_BY(mutex) = 0;
  std::uint64_t peak_bytes SHMPOOL_GUARDED_BY(mutex) = 0;
  bool memfd_used SHMPOOL_GUARDED_BY(mutex) = false;
  std::shared_ptr<const mailbox_list> mailboxes SHMPOOL_GUARDED_BY(mutex) = std::make_shared<const mailbox_list>();

  /// In a process that the application forked. Asked before any lock is taken: another thread may have held it at the
  /// fork.
  bool inert() const noexcept { return lock->inherited(); }

  /// Charges the budget with `bytes` for a live segment; adds the cached segments that must go for it to `evicted`.
  /// Throws errc::shm_exhausted, saying that `asked` bytes were asked.
  void charge(std::size_t bytes, std::size_t asked, segment_chain& evicted) SHMPOOL_REQUIRES(mutex);
  /// Takes a segment from the cache and counts it as live; null if none fulfils the wish.
  file_segment* revive(const segment_cache::wish& wish) noexcept;
  /// Puts the segment into the cache, if the cache is open and the segment fits and has not lost its name.
  bool keep(file_segment& segment) noexcept;
  /// Frees a live segment.
  void retire(file_segment& segment) noexcept;
  /// Frees segments that are in no list and no count any more; returns how many.
  std::size_t destroy(segment_chain chain) noexcept;
  void destroy(file_segment& segment) noexcept;
  /// Empties the cache; returns how many segments that freed.
  std::size_t drop_cache() noexcept;
  /// Frees the segments that were put into the cache before `then`.
  void drop_older_than(clock::time_point then) noexcept;
  /// Drops the lock file once the store is closed and no segment is live: there can be no names then.
  void drop_lock_if_done() noexcept;
};

}  // namespace shmpool::shm
