// pool_stats: what process_pool::stats() tells.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace shmpool {

/// A snapshot, consistent in itself.
struct pool_stats {
  std::string_view backend;  ///< "io_uring" or "epoll"
  std::string_view backing;  ///< "posix", or "memfd" once at least one segment had to be one

  unsigned workers = 0;       ///< processes that run or are being started
  unsigned idle_workers = 0;  ///< of these, without a task
  std::uint64_t workers_started = 0;
  std::uint64_t worker_deaths = 0;  ///< ended without being asked to

  std::size_t queued = 0;     ///< tasks that wait in the pool
  std::size_t assigned = 0;   ///< tasks that were handed to a worker
  std::uint64_t submitted = 0;
  std::uint64_t completed = 0;  ///< with a value
  std::uint64_t failed = 0;     ///< with an error, cancelled ones included

  std::size_t live_segments = 0;    ///< held by a handle, a task or a worker
  std::size_t cached_segments = 0;  ///< free and warm
  std::uint64_t live_bytes = 0;
  std::uint64_t cached_bytes = 0;
  std::uint64_t peak_bytes = 0;  ///< most of both so far
};

}  // namespace shmpool
