// One shared segment as its pool sees it: a file of its own, or a block of a file that it shares with others (arena).
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
class arena;
class file_segment;

/// A segment in the parent. Fixed when it is made: its id, the file in which it lies, and where.
class pool_segment : public detail::segment {
 public:
  /// The file in which it lies; that segment is alive for as long as this one is held.
  file_segment& file() const noexcept { return *file_; }
  bool is_block() const noexcept;
  /// Where it begins in the file, in bytes.
  std::size_t place() const noexcept;
  /// Bytes from its start whose pages are known to exist (or are granted to the worker that will create them).
  std::size_t reserved() const noexcept;

 protected:
  pool_segment(file_segment& file, std::uint64_t id) noexcept : segment(kind::pool, id), file_(&file) {}
  ~pool_segment() = default;

  // Guarded by the file's lends_mutex_.
  lend_table lends_;

 private:
  friend bool begin_lend(pool_segment& segment, std::uint64_t offset, std::uint64_t length, bool write);
  friend void end_lend(pool_segment& segment, std::uint64_t offset, std::uint64_t length, bool write) noexcept;

  file_segment* file_;
};

/// A segment that has a file. Fixed when it is made: name, capacity, whether it is a memfd. See store for the rest.
class file_segment final : public pool_segment {
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
  /// Whether the name is gone and no descriptor is kept, so that a worker could not open it. Looks every tenth of a
  /// second at most.
  bool found_nameless(monotonic_clock::time_point now) noexcept;
  /// Length of the file; mappings cover all of it.
  std::size_t capacity() const noexcept { return capacity_; }
  /// As pool_segment's.
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

  file_segment(std::shared_ptr<store> owner, std::uint64_t pool_id, std::uint64_t id, bool named, std::size_t capacity,
               std::size_t reserved, bool dumped);

  static constexpr std::uint64_t bit(std::uint32_t worker) noexcept { return std::uint64_t{1} << (worker % 64); }
  void last_release() noexcept override;
  /// Only while nobody else has the segment, hence without the lock.
  void forget_lends() noexcept { lends_.clear(); }

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

  mutex lends_mutex_;  // for its own lends and those of its blocks
  monotonic_clock::time_point look_due_ SHMPOOL_GUARDED_BY(lends_mutex_){};  // for its name

  // Links of segment_cache.
  monotonic_clock::time_point cached_at_{};
  file_segment* older_ = nullptr;
  file_segment* newer_ = nullptr;
  file_segment* older_in_class_ = nullptr;
  file_segment* newer_in_class_ = nullptr;
};

inline bool pool_segment::is_block() const noexcept {
  return file_ != this;
}

inline std::size_t pool_segment::place() const noexcept {
  return is_block() ? static_cast<std::size_t>(data() - file_->data()) : 0;
}

inline std::size_t pool_segment::reserved() const noexcept {
  return is_block() ? size() : file_->reserved();
}

}  // namespace shmpool::shm
