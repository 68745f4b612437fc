// pool_options and task_options: plain aggregates for designated initialisers, which may be written inside a co_await.
// For that each member is of a type of which g++ 12 makes a member without harm: one whose bytes are its value, or a
// callback.
//
// Thread safety: values.
#pragma once

#include <shmpool/bound_function.hpp>
#include <shmpool/callback.hpp>
#include <shmpool/cpu_set.hpp>
#include <shmpool/error.hpp>
#include <shmpool/resource_limits.hpp>

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

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

/// What becomes of a submit for which there is no room (pool_options::max_pending and max_pending_bytes).
enum class overload : std::uint8_t {
  wait,    ///< it waits its turn, before its arguments are packed
  refuse,  ///< it fails at once with errc::queue_full
};

/// How and why a worker process ended; for pool_options::on_worker_exit. One that was asked to leave did that, however
/// it went: its signal is SIGKILL if it took longer than two seconds, another one if a destructor or the finalizer
/// crashed, and its exit code is 1 if the finalizer threw.
struct worker_exit {
  enum class reason : std::uint8_t {
    died,     ///< nobody had asked it to: a crash, a signal from outside, exit() in a task
    killed,   ///< by the pool: a task that was cancelled or overdue did not heed it, or the worker broke the protocol
    retired,  ///< it had run max_tasks_per_worker, had outgrown max_worker_rss, or the pool shuts down
    idle,     ///< it had nothing to do for idle_timeout
  };
  reason why = reason::died;
  pid_t pid = 0;
  int signal = 0;                   ///< the signal that ended it, 0 if it exited
  int exit_code = 0;                ///< its exit code, if signal is 0
  bool status_known = false;        ///< false if nobody could learn how it ended
  std::uint64_t max_rss_bytes = 0;  ///< its peak resident memory, 0 if unknown
  std::uint64_t tasks = 0;          ///< results that it has sent
};

/// The number of CPUs that this process was started with (by taskset, by its cgroup), at least 1; what threads of it
/// were pinned to since does not count.
unsigned default_worker_count() noexcept;

struct pool_options {
  /// Most workers that run tasks at once, 1 to 4096. They are started when tasks ask for them. While some are about to
  /// leave, their replacements exist beside them.
  unsigned workers = default_worker_count();
  /// Workers that are started with the pool and kept, at most `workers`.
  unsigned min_workers = 0;
  /// A worker beyond min_workers leaves when it had nothing to do for this long, whether the pool's context runs or
  /// not; zero: never.
  std::chrono::milliseconds idle_timeout = std::chrono::milliseconds::zero();
  /// A worker leaves when it has run this many tasks, and is replaced before; 0: never.
  unsigned max_tasks_per_worker = 0;
  /// A worker leaves after the task at which its private resident memory (shared segments not counted) was found above
  /// this many bytes, and is replaced before; 0: never. Looked at after tasks of a millisecond and more, else every 10
  /// ms.
  std::uint64_t max_worker_rss = 0;
  shmpool::backend backend = backend::automatic;
  shmpool::backing backing = backing::automatic;
  /// Budget for the pool's shared memory in bytes, cache included; 0 means no bound of its own.
  std::size_t max_shm_bytes = 0;
  /// How many bytes of free segments may be kept warm for reuse. Default: 1 GiB, or a quarter of the machine's memory.
  std::optional<std::size_t> cache_bytes = std::nullopt;
  /// A cached segment unused for this long is freed at the pool's next activity.
  std::chrono::milliseconds cache_idle = std::chrono::seconds{30};
  /// Whether core files have the arrays in them, of this process and of the workers. By default they are left out, as
  /// to write them takes seconds per gigabyte, for which a crash goes unreported; /proc/<pid>/coredump_filter can only
  /// leave out more.
  bool dump_arrays = false;
  /// Arrays of at most this many bytes travel inside the message instead of in a segment. At most 1 MiB.
  std::size_t inline_bytes = 16 * 1024;
  /// Most tasks that may be queued or run at once; 0 means no bound.
  std::size_t max_pending = 0;
  /// No further task is let in while the arguments of those that are queued or run (what is packed, and all of the
  /// arrays that they are given) take at least this many bytes; 0 means no bound. So one task may go beyond it.
  std::size_t max_pending_bytes = 0;
  /// What becomes of a submit that finds no room. One that waits reads contiguous ranges that it was given as lvalues
  /// when its turn comes, so that they must live until it completes.
  overload when_full = overload::wait;
  /// How long a cancelled or overdue task may take to heed stop_requested() before its worker is killed.
  std::chrono::milliseconds cancel_grace = std::chrono::milliseconds{500};
  /// Most tasks handed to one worker ahead of time when tasks are short, 1 to 64; 1 turns it off.
  unsigned window = 64;
  /// For how long the pool and its idle workers may poll before they sleep, while there are CPUs to spare: to be woken
  /// takes longer than a short task. At most 1 s; zero: they sleep as soon as nothing is left to do.
  std::chrono::microseconds spin = std::chrono::microseconds{50};
  /// A function that has killed this many workers, and has done so in more than nine of ten runs, is quarantined: its
  /// submits, and those that wait, fail at once with errc::quarantined. One is let through after a second, then after
  /// two and so on up to a minute; the first that does not kill its worker ends the quarantine. 0: never.
  unsigned quarantine_function_after = 0;
  /// A call (a function and the bytes of its arguments) that has killed this many workers, in the attempts of one task
  /// or over several submits, fails at once with errc::quarantined for the next ten minutes. The last 64 are
  /// remembered, those with arrays of the pool or with more than 64 KiB are not. 0: never.
  unsigned quarantine_call_after = 0;
  /// Runs in each worker before its first task: a function, or shmpool::bind(function, arguments...). If it throws or
  /// crashes, tasks end with errc::pool_broken, which says so, until it is tried again and succeeds.
  bound_function initializer = {};
  /// Runs in each worker that leaves because it may (it was retired or idle, or the pool was shut down), before the
  /// worker ends by exit(), which runs what was given to atexit and destroys what is static. All of it has two seconds.
  /// It makes no tasks fail: that it threw or crashed is seen in on_worker_exit only.
  bound_function finalizer = {};
  /// What tasks have started (programs, forks, and what those have started) is killed when its worker ends, however
  /// that ends. True leaves it running, for tasks that start daemons. See docs/guarantees.md for what is found and what
  /// is not.
  bool leave_descendants = false;
  /// Added to the nice value of the workers, 0 to 19.
  int nice = 0;
  /// CPUs that the workers may run on; empty means those of this process.
  cpu_set cpu_affinity = {};
  /// Resource limits set in each worker: RLIMIT_* and the value for both the soft and the hard limit.
  resource_limits rlimits = {};
  /// Called on the pool's executor when the pool learns that a worker has ended, except when the pool object is
  /// destroyed. A pool without work does not look; it learns of it with the next submit, or stats(). On several threads
  /// at once, if several run the executor's context. Destroyed with the last copy of these options and with the pool,
  /// never while the pool holds a lock: it may use the pool, own it, and be its end.
  callback<void(const worker_exit&)> on_worker_exit = {};
};

struct task_options {
  /// Most time that the task may run, counted from the start of the run; zero means no limit. A task that is stopped so
  /// completes with errc::deadline_exceeded: when it heeds stop_requested(), and `cancel_grace` later at the latest. A
  /// second attempt has as much time again.
  std::chrono::nanoseconds timeout = std::chrono::nanoseconds::zero();
  /// Most time until the task has ended, counted from submit() and through all attempts; zero means no limit. One that
  /// waits then, for room or for a worker, ends at once with errc::deadline_exceeded; one that runs ends as with
  /// `timeout`.
  std::chrono::nanoseconds deadline = std::chrono::nanoseconds::zero();
  /// How long this task may take to heed stop_requested() when it is cancelled or overdue, before its worker is killed;
  /// not set: pool_options::cancel_grace.
  std::optional<std::chrono::milliseconds> cancel_grace = std::nullopt;
  /// True if running the task twice does no harm: it may then be tried again when a worker dies under it.
  bool idempotent = false;
  /// Most runs of an idempotent task, at least 1.
  unsigned attempts = 1;
  /// Called on the pool's executor with what the task says in this_task::report_progress(), a number from 0 to 1. Not
  /// called any more once the task has completed. As on_worker_exit, it may use the pool, own it, and be its end.
  callback<void(double)> on_progress = {};
};

}  // namespace shmpool
