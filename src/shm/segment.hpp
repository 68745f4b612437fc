// One shared segment as its pool sees it.
//
// Thread safety: any thread may use counts, hints and lends. Only the owner that has got a segment from the store and
// not handed it on yet may call mark_created() and map(); the rest is fixed then.
#pragma once

#include "process/clock.hpp"
#include "process/mutex.hpp"
#include "shm/call_error.hpp"
#include "shm/kept_descriptor.hpp"
#include "shm/lend_table.hpp"
#include "shm/mapping.hpp"

#include <shmpool/detail/segment.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>

namespace shmpool::shm {

class store;

/// A segment in the parent. Fixed when it is made: id, name, capacity, whether it is a memfd. See store for the rest.
class pool_segment final : public detail::segment {
 public:
  /// Id of the pool that owns it, which is part of its name.
  std::uint64_t pool_id() const noexcept { return pool_id_; }
  /// "shmpool.<uid>.<pool id>.<n>"; empty for a memfd.
  std::string name() const override { return name_; }
  /// The store that accounts for it, while somebody holds it.
  store& owner() const noexcept { return *owner_; }
  /// The descriptor by which workers are to know it, or -1 if they can open its name. Owned by the segment.
  int descriptor() const noexcept { return memfd_ ? memfd_.get() : nameless() ? kept_.get() : -1; }
  /// Finds any descriptor of the segment, for a worker that could not open it. The error says why there is none: the
  /// name is gone, say.
  call_error find_descriptor(int& fd) noexcept;
  /// It had a name, which somebody else has removed.
  bool nameless() const noexcept { return nameless_.load(std::memory_order_acquire); }
  /// Length of the file; mappings cover all of it.
  std::size_t capacity() const noexcept { return capacity_; }
  /// Bytes from the start whose pages are known to exist (or are granted to the worker that will create them).
  std::size_t reserved() const noexcept { return reserved_; }

  /// False for a leased segment that its worker has not reported yet; its release then only unlinks a possible name.
  bool created() const noexcept { return created_.load(std::memory_order_relaxed); }
  void mark_created() noexcept { created_.store(true, std::memory_order_relaxed); }

  /// Maps it into this process if it is not; checks first that the file really is as long as it should be and that the
  /// pages of the first `bytes` bytes exist, so that touching them cannot raise SIGBUS. The error names what is wrong.
  call_error map(std::size_t bytes) noexcept;
  bool mapped() const noexcept { return data() != nullptr; }

  /// Bookkeeping of which workers have it mapped, as a hint for placement (worker index modulo 64).
  void note_mapped_by(std::uint32_t worker) noexcept { mapped_by_.fetch_or(bit(worker), std::memory_order_relaxed); }
  void forget_worker(std::uint32_t worker) noexcept { mapped_by_.fetch_and(~bit(worker), std::memory_order_relaxed); }
  /// Bits (worker index modulo 64) of the workers that may have it mapped.
  std::uint64_t mapped_by() const noexcept { return mapped_by_.load(std::memory_order_relaxed); }
  bool maybe_mapped_by(std::uint32_t worker) const noexcept {
    return (mapped_by_.load(std::memory_order_relaxed) & bit(worker)) != 0;
  }

 private:
  friend class store;
  friend class segment_cache;
  friend class segment_chain;
  friend bool begin_lend(pool_segment& segment, std::uint64_t offset, std::uint64_t length, bool write);
  friend void end_lend(pool_segment& segment, std::uint64_t offset, std::uint64_t length, bool write) noexcept;

  pool_segment(std::shared_ptr<store> owner, std::uint64_t pool_id, std::uint64_t id, bool named, std::size_t capacity,
               std::size_t reserved, bool dumped);

  static constexpr std::uint64_t bit(std::uint32_t worker) noexcept { return std::uint64_t{1} << (worker % 64); }
  void last_release() noexcept override;
  /// Only while nobody else has the segment, hence without the lock.
  void forget_lends() noexcept SHMPOOL_NO_THREAD_SAFETY_ANALYSIS { lends_.clear(); }

  /// Creates file, mapping and the pages of reserved() bytes, under the name or, if `memfd`, without one.
  call_error create(bool memfd) noexcept;
  /// False if the name is gone: better not use the segment any more. For the owner that has just got it from the cache.
  bool still_named() noexcept;
  void open_name(unique_fd& fd, std::error_code& error) noexcept;
  /// All of reserved() is known to exist, not only granted.
  bool complete() const noexcept { return existing_ == reserved_; }
  /// Unlinks the name, if there is one.
  void unlink() noexcept;

  std::atomic<std::uint64_t> mapped_by_{0};
  std::uint64_t pool_id_;
  std::size_t capacity_;
  std::size_t reserved_;      // bytes charged to the budget
  std::size_t existing_ = 0;  // of these, the bytes whose pages this process has seen to
  std::string name_;          // empty for a memfd
  bool dumped_;               // core files have it
  unique_fd memfd_;
  kept_descriptor kept_;  // of a named segment; once that is handed out, set under lends_mutex_ and only while empty
  std::atomic<bool> nameless_{false};
  mapping mapping_;
  std::atomic<bool> created_{false};

  std::shared_ptr<store> owner_;  // while it is live; null while it is cached, or the store could never go

  mutex lends_mutex_;
  lend_table lends_ SHMPOOL_GUARDED_BY(lends_mutex_);

  // Links of segment_cache.
  monotonic_clock::time_point cached_at_{};
  pool_segment* older_ = nullptr;
  pool_segment* newer_ = nullptr;
  pool_segment* older_in_class_ = nullptr;
  pool_segment* newer_in_class_ = nullptr;
};

}  // namespace shmpool::shm
