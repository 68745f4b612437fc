// Reports when a worker's own memory has grown beyond a limit. Shared memory does not count: arrays come and go.
//
// Thread safety: none; the worker's main thread asks after each task.
#pragma once

#include "process/unique_fd.hpp"

#include <cstdint>

namespace shmpool::worker {

class memory_limit {
 public:
  /// `bytes`: private resident memory (RssAnon of /proc/self/status).
  explicit memory_limit(std::uint64_t bytes) noexcept;

  /// The private resident memory in bytes if it is above the limit, once; otherwise 0. A look costs a system call, so a
  /// short task causes one only if the last look is long ago. `now_ns`: CLOCK_MONOTONIC; `run_ns`: how long the task
  /// ran.
  std::uint64_t exceeded_by(std::uint64_t now_ns, std::uint64_t run_ns) noexcept;

 private:
  std::uint64_t bytes_;
  std::uint64_t page_size_;
  unique_fd statm_;
  std::uint64_t last_look_ns_ = 0;
  bool told_ = false;
};

}  // namespace shmpool::worker
