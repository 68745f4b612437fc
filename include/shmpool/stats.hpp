// pool_stats: the result of process_pool::stats().
//
// Thread safety: values.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace shmpool {

/// Numbers of tasks that ended with an error, by kind of error.
struct failure_counts {
  std::uint64_t threw = 0;    ///< the task's own exception
  std::uint64_t aborted = 0;  ///< operation_aborted: cancelled, or the pool was stopped
  std::uint64_t deadline_exceeded = 0;
  std::uint64_t worker_lost = 0;
  /// This process could not take in the result: its limits, or a name that was removed.
  std::uint64_t shm_exhausted = 0;
  std::uint64_t protocol_violation = 0;
  std::uint64_t worker_start_failed = 0;
  std::uint64_t pool_broken = 0;
  std::uint64_t quarantined = 0;
};

/// Whether the pool can keep workers alive. Tasks that crash do not count.
enum class pool_health : std::uint8_t {
  healthy,  ///< as far as is known
  failing,  ///< workers cannot be started, or end before they have a task: the next one is started after a pause
  broken,   ///< failing, and no worker is left: submits fail with errc::pool_broken; the first after next_start tries
            ///< again
  lost,     ///< broken for good: without its fork server, its loop or its memory the pool cannot go on
};

/// A snapshot, consistent in itself. Taking it costs microseconds.
struct pool_stats {
  std::string_view backend;  ///< "io_uring" or "epoll"
  std::string_view backing;  ///< "posix", or "memfd" once at least one segment had to be a memfd

  unsigned workers = 0;           ///< processes that run or are being started
  unsigned starting_workers = 0;  ///< of these, not known to exist yet
  unsigned idle_workers = 0;      ///< of these, without a task
  unsigned leaving_workers = 0;   ///< of these, on their way out
  std::uint64_t workers_started = 0;
  std::uint64_t workers_retired = 0;  ///< ended because the pool asked them to, or as idle
  std::uint64_t workers_killed = 0;   ///< by the pool
  std::uint64_t worker_deaths = 0;    ///< ended without being asked to

  pool_health health = pool_health::healthy;
  /// While the pool is failing or broken: no worker is started before this time.
  std::optional<std::chrono::steady_clock::time_point> next_start;
  std::size_t quarantined_functions = 0;  ///< see pool_options::quarantine_function_after

  std::size_t held = 0;             ///< submits that wait for room (pool_options::max_pending)
  std::size_t queued = 0;           ///< tasks that wait in the pool
  std::size_t assigned = 0;         ///< tasks that were handed to a worker
  std::size_t running = 0;          ///< of these, begun
  std::uint64_t pending_bytes = 0;  ///< arguments of all queued and assigned tasks
  std::uint64_t submitted = 0;      ///< let in so far
  std::uint64_t completed = 0;      ///< with a value
  std::uint64_t failed = 0;         ///< with an error: the sum of all `failures`
  failure_counts failures;

  std::size_t live_segments = 0;    ///< files with memory that a handle, a task or a worker holds
  std::size_t cached_segments = 0;  ///< files that are free and warm
  std::uint64_t live_bytes = 0;
  std::uint64_t cached_bytes = 0;
  std::uint64_t peak_bytes = 0;  ///< most live and cached bytes so far
};

}  // namespace shmpool
