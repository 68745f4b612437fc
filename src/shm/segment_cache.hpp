// The warm segments that nobody uses, ordered by when they were put in, overall and within each size class. The lists
// are intrusive, so that putting a segment in cannot fail.
//
// Thread safety: none; the store's mutex guards it.
#pragma once

#include "process/clock.hpp"
#include "shm/segment.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>

namespace shmpool::shm {

class segment_cache {
 public:
  using time_point = monotonic_clock::time_point;

  /// The segment to take: of size class `capacity`, with `bytes` bytes that exist, best if `worker` has it mapped.
  struct wish {
    std::size_t capacity = 0;
    std::size_t bytes = 0;
    std::optional<std::uint32_t> worker = std::nullopt;
    bool may_grow = true;  ///< fewer existing bytes will do if there is nothing better
  };

  /// Makes the list of a size class; may throw. Call it for a segment's capacity before the segment is put in.
  void prepare(std::size_t capacity) { classes_.try_emplace(capacity, nullptr); }

  void put(file_segment& segment, time_point now) noexcept;
  /// The last one put in that fulfils the wish best, among the newest of its class; null if there is none.
  file_segment* take(const wish& wanted) noexcept;
  file_segment* take_oldest() noexcept;

  /// When the oldest segment was put in; null if the cache is empty.
  std::optional<time_point> oldest() const noexcept;
  std::size_t count() const noexcept { return count_; }
  std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  void remove(file_segment& segment) noexcept;

  std::unordered_map<std::size_t, file_segment*> classes_;  // capacity to the newest of the class
  file_segment* newest_ = nullptr;
  file_segment* oldest_ = nullptr;
  std::size_t count_ = 0;
  std::uint64_t bytes_ = 0;
};

/// Segments on their way out, collected under the store's mutex and freed outside of it. It only links them.
class segment_chain {
 public:
  void push(file_segment& segment) noexcept;
  file_segment* pop() noexcept;

 private:
  file_segment* first_ = nullptr;
};

}  // namespace shmpool::shm
