// One shared segment as its pool sees it, and the mapping calls that parent and workers have in common.
#pragma once

#include "shm/mapping.hpp"

#include <shmpool/detail/segment.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

namespace shmpool::shm {

class store;

/// A segment in the parent. Fixed when it is made: id, name, capacity, whether it is a memfd. See store for the rest.
class pool_segment final : public detail::segment {
 public:
  /// Id of the pool that owns it, which is part of its name.
  std::uint64_t pool_id() const noexcept;
  /// "shmpool.<uid>.<pool id>.<n>"; empty for a memfd.
  std::string name() const;
  /// The memfd, or -1 for a named segment. Owned by the segment.
  int descriptor() const noexcept;
  /// Length of the file; mappings cover all of it.
  std::size_t capacity() const noexcept;
  /// Bytes from the start whose pages are known to exist (or are granted to the worker that will create them).
  std::size_t reserved() const noexcept;

  /// False for a leased segment that its worker has not reported yet; its release then only unlinks a possible name.
  bool created() const noexcept;
  void mark_created() noexcept;

  /// Maps it into this process if it is not; checks first that the file really is as long as it should be and that the pages of the
  /// first `bytes` bytes exist, so that touching them cannot raise SIGBUS. The error names what is wrong.
  std::error_code map(std::size_t bytes) noexcept;
  bool mapped() const noexcept { return data() != nullptr; }

  /// Bookkeeping of which workers have it mapped, as a hint for placement (worker index modulo 64).
  void note_mapped_by(std::uint32_t worker) noexcept { mapped_by_.fetch_or(bit(worker), std::memory_order_relaxed); }
  void forget_worker(std::uint32_t worker) noexcept { mapped_by_.fetch_and(~bit(worker), std::memory_order_relaxed); }
  bool maybe_mapped_by(std::uint32_t worker) const noexcept {
    return (mapped_by_.load(std::memory_order_relaxed) & bit(worker)) != 0;
  }

 private:
  static constexpr std::uint64_t bit(std::uint32_t worker) noexcept { return std::uint64_t{1} << (worker % 64); }
  std::atomic<std::uint64_t> mapped_by_{0};
  // The implementer of the store completes this class.
};

}  // namespace shmpool::shm
