// shm_handle: the owner under every array. A cheap-to-copy reference to one segment; the last one released gives the
// segment back to its pool (which keeps it warm or unlinks it).
//
// Thread safety: distinct handles may be used from distinct threads, also when they share a segment; one handle may
// not.
#pragma once

#include <shmpool/detail/segment.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace shmpool {

class shm_handle {
 public:
  /// The null handle: owns nothing.
  constexpr shm_handle() noexcept = default;
  shm_handle(const shm_handle& other) noexcept : segment_(other.segment_) {
    if (segment_) segment_->retain();
  }
  shm_handle(shm_handle&& other) noexcept : segment_(std::exchange(other.segment_, nullptr)) {}
  shm_handle& operator=(shm_handle other) noexcept {
    swap(other);
    return *this;
  }
  ~shm_handle() {
    if (segment_) segment_->release();
  }

  /// Takes a new reference on `segment` (may be null).
  explicit shm_handle(detail::segment* segment) noexcept : segment_(segment) {
    if (segment_) segment_->retain();
  }

  explicit operator bool() const noexcept { return segment_ != nullptr; }
  void reset() noexcept { shm_handle{}.swap(*this); }
  void swap(shm_handle& other) noexcept { std::swap(segment_, other.segment_); }

  /// First byte of the segment; null for the null handle.
  std::byte* data() const noexcept { return segment_ ? segment_->data() : nullptr; }
  /// Usable bytes; at least what was asked for.
  std::size_t size() const noexcept { return segment_ ? segment_->size() : 0; }
  /// How many handles and running tasks share the segment in this process; 0 for the null handle. A snapshot.
  long use_count() const noexcept { return segment_ ? static_cast<long>(segment_->use_count()) : 0; }
  /// True if the memory is shared memory, false if it is private to this process (or the handle is null).
  bool is_shared() const noexcept { return segment_ && segment_->what() != detail::segment::kind::heap; }
  /// The name under /dev/shm, without the slash; empty for private and for unnamed (memfd) memory.
  std::string name() const { return segment_ ? segment_->name() : std::string{}; }

  detail::segment* get() const noexcept { return segment_; }

  friend bool operator==(const shm_handle& a, const shm_handle& b) noexcept { return a.segment_ == b.segment_; }

 private:
  detail::segment* segment_ = nullptr;
};

/// What clear_shm() did, in files of shared memory.
struct clear_result {
  std::size_t freed = 0;       ///< nobody held them: unmapped, names unlinked
  std::size_t still_held = 0;  ///< kept because a handle, a task or a worker holds memory in them
};

/// What reap_orphans() removed.
struct reap_result {
  std::size_t pools = 0;     ///< dead pools of this user that were cleaned up
  std::size_t segments = 0;  ///< segment names that were unlinked
  std::uint64_t bytes = 0;   ///< their sizes, added up
};

/// Removes the segments of this user whose owner is dead, machine-wide, and only those: a pool that lives holds a lock
/// on its lock file, wherever it runs. Called by every pool on construction.
/// Safe from any thread. Throws nothing: where /dev/shm is missing there is nothing to do.
reap_result reap_orphans() noexcept;

}  // namespace shmpool
