// The reference-counted memory under every array. This is the base of the three kinds there are: private heap memory,
// a shared segment as its pool (the parent) sees it, and a shared segment as a worker sees it.
//
// Thread safety: the count is atomic; everything else is fixed before the first reference is handed out.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace shmpool::detail {

class segment {
 public:
  enum class kind : std::uint8_t {
    heap,    ///< private to this process: small arrays, and arrays made outside a worker and outside a pool
    pool,    ///< shared memory that a pool of this process accounts for
    worker,  ///< shared memory that was handed to this worker process
  };

  segment(const segment&) = delete;
  segment& operator=(const segment&) = delete;

  std::byte* data() const noexcept { return data_; }
  /// Usable bytes from data().
  std::size_t size() const noexcept { return size_; }
  /// Unique within the parent process and its workers; 0 for heap memory.
  std::uint64_t id() const noexcept { return id_; }
  kind what() const noexcept { return kind_; }
  /// The file's name under /dev/shm, without the slash; empty for memory that has none.
  virtual std::string name() const { return {}; }

  void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  /// A thread that seems to hold the last reference leaves its release to the owner, which gives it up under its own
  /// lock. So the owner never sees a count of zero before that thread tells it, and may destroy a segment that nobody
  /// holds.
  void release() noexcept {
    std::uint32_t count = references_.load(std::memory_order_relaxed);
    while (count != 1) {
      if (references_.compare_exchange_weak(count, count - 1, std::memory_order_release, std::memory_order_relaxed))
        return;
    }
    last_release();
  }
  std::uint32_t use_count() const noexcept { return references_.load(std::memory_order_acquire); }

 protected:
  segment(kind what, std::uint64_t id) noexcept : id_(id), kind_(what) {}
  ~segment() = default;

  /// Gives up one reference that may be the last; if give_up() says that it was, frees the memory or keeps it warm for
  /// the next user.
  virtual void last_release() noexcept = 0;
  /// True if the count has fallen to zero.
  bool give_up() noexcept { return references_.fetch_sub(1, std::memory_order_acq_rel) == 1; }

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;

 private:
  std::uint64_t id_;
  std::atomic<std::uint32_t> references_{0};
  kind kind_;
};

/// A new private segment with one page or cache line alignment, as `alignment` asks; throws std::bad_alloc.
segment* make_heap_segment(std::size_t bytes, std::size_t alignment);

}  // namespace shmpool::detail
