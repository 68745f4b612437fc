// pool_options and task_options: plain aggregates for designated initialisers.
#pragma once

#include <shmpool/error.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace shmpool {

/// How completions arrive.
enum class backend : std::uint8_t {
  automatic,  ///< io_uring where a real round trip through a ring works, otherwise epoll
  io_uring,   ///< io_uring, or construction fails and says why
  epoll,      ///< epoll
};

/// Where segments live.
enum class backing : std::uint8_t {
  automatic,  ///< named POSIX shared memory; memfd where /dev/shm is missing or full
  posix,      ///< named POSIX shared memory only
  memfd,      ///< anonymous memory whose descriptor is passed to the workers
};

/// The number of CPUs that this process may use (its affinity mask), at least 1.
unsigned default_worker_count() noexcept;

struct pool_options {
  /// Most worker processes, 1 to 4096. They are started when tasks ask for them.
  unsigned workers = default_worker_count();
  shmpool::backend backend = backend::automatic;
  shmpool::backing backing = backing::automatic;
  /// Budget for the pool's shared memory in bytes, cache included; 0 means no bound of its own.
  std::size_t max_shm_bytes = 0;
  /// How many bytes of free segments may be kept warm for reuse. Default: 1 GiB, or a quarter of the machine's memory.
  std::optional<std::size_t> cache_bytes = std::nullopt;
  /// A cached segment unused for this long is freed at the pool's next activity.
  std::chrono::milliseconds cache_idle = std::chrono::seconds{30};
  /// Arrays of at most this many bytes travel inside the message instead of in a segment. At most 1 MiB.
  std::size_t inline_bytes = 16 * 1024;
  /// Most tasks that may wait or run at once; a further submit fails with errc::queue_full. 0 means no bound.
  std::size_t max_pending = 0;
  /// How long a cancelled or overdue task may take to heed stop_requested() before its worker is killed.
  std::chrono::milliseconds cancel_grace = std::chrono::milliseconds{500};
  /// Most tasks handed to one worker ahead of time when tasks are short, 1 to 64; 1 turns it off.
  unsigned window = 64;
  /// Runs in each worker before its first task. If it throws, the pool is broken and says so.
  void (*initializer)() = nullptr;
  /// Added to the nice value of the workers, 0 to 19.
  int nice = 0;
  /// CPUs that the workers may run on; empty means those of this process.
  std::vector<int> cpu_affinity = {};
  /// Resource limits set in each worker: RLIMIT_* and the value for both the soft and the hard limit.
  std::vector<std::pair<int, std::uint64_t>> rlimits = {};
};

struct task_options {
  /// Most time that the task may run, counted from the start of the run; zero means no limit. A task that is stopped so
  /// completes with errc::deadline_exceeded.
  std::chrono::nanoseconds timeout = std::chrono::nanoseconds::zero();
  /// True if running the task twice does no harm: it may then be tried again when a worker dies under it.
  bool idempotent = false;
  /// Most runs of an idempotent task, at least 1.
  unsigned attempts = 1;
  /// Called on the pool's executor with what the task says in this_task::report_progress(), a number from 0 to 1. Not called any
  /// more once the task has completed.
  std::function<void(double)> on_progress = {};
};

}  // namespace shmpool
