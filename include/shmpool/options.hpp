// pool_options and task_options: plain aggregates for designated initialisers, which may be written inside a co_await.
// There g++ 12 copies temporaries byte by byte, so each member is of a type that this does not harm: one whose bytes
// are its value, or a callback.
//
// Thread safety: values.
#pragma once

#include <shmpool/backend.hpp>
#include <shmpool/bound_function.hpp>
#include <shmpool/callback.hpp>
#include <shmpool/cpu_set.hpp>
#include <shmpool/resource_limits.hpp>

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace shmpool {

/// How a pool treats a submit for which there is no room (pool_options::max_pending and max_pending_bytes).
enum class overload : std::uint8_t {
  wait,    ///< the submit waits its turn, before its arguments are packed
  refuse,  ///< the submit fails at once with errc::queue_full
};

/// How and why a worker process ended; for pool_options::on_worker_exit. A worker that was asked to leave counts as
/// retired or idle, whatever its status: the signal is SIGKILL if leaving took longer than two seconds, another signal
/// if a destructor or the finalizer crashed; the exit code is 1 if the finalizer threw.
struct worker_exit {
  enum class reason : std::uint8_t {
    died,     ///< nobody had asked it to end: a crash, a signal from outside, exit() in a task
    killed,   ///< by the pool: a cancelled or overdue task did not stop, or the worker broke the protocol
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

/// The number of CPUs that this process was started with (by taskset, by its cgroup), at least 1. Pinning its threads
/// later does not change the number.
unsigned default_worker_count() noexcept;

struct pool_options {
  /// Most workers that run tasks at once, 1 to 4096. They are started when tasks need them. While some are about to
  /// leave, their replacements exist beside them.
  unsigned workers = default_worker_count();
  /// Workers that are started with the pool and kept, at most `workers`.
  unsigned min_workers = 0;
  /// A worker beyond min_workers leaves when it has had nothing to do for this long, whether the pool's context runs or
  /// not; zero: never.
  std::chrono::milliseconds idle_timeout = std::chrono::milliseconds::zero();
  /// A worker leaves when it has run this many tasks; its replacement is started first. 0: never.
  unsigned max_tasks_per_worker = 0;
  /// A worker leaves after the task at which its private resident memory (shared segments not counted) was found above
  /// this many bytes; its replacement is started first. 0: never. Measured after tasks of a millisecond and more, else
  /// every 10 ms.
  std::uint64_t max_worker_rss = 0;
  shmpool::backend backend = backend::automatic;
  shmpool::backing backing = backing::automatic;
  /// Budget for the pool's shared memory in bytes, cache included; 0 means that the pool sets no bound.
  std::size_t max_shm_bytes = 0;
  /// How many bytes of free segments may be kept warm for reuse. Default: 1 GiB, or a quarter of the machine's memory.
  std::optional<std::size_t> cache_bytes = std::nullopt;
  /// A cached segment unused for this long is freed at the pool's next activity.
  std::chrono::milliseconds cache_idle = std::chrono::seconds{30};
  /// Whether core files of this process and of the workers contain the arrays. By default they do not: writing arrays
  /// takes seconds per gigabyte, and a crash goes unreported for as long; /proc/<pid>/coredump_filter can only leave
  /// out more.
  bool dump_arrays = false;
  /// Arrays of at most this many bytes travel inside the message instead of in a segment. At most 1 MiB.
  std::size_t inline_bytes = 16 * 1024;
  /// Arrays in shared memory of at most this many bytes lie in arenas: files that many of them share. At most 64 KiB.
  /// 0: each has a file of its own, so that a worker which was lent one to write to cannot overwrite another.
  std::size_t arena_bytes = 64 * 1024;
  /// Most tasks that may be queued or run at once; 0 means no bound.
  std::size_t max_pending = 0;
  /// No further task is let in while the arguments of queued and running tasks (packed bytes, and all of the arrays
  /// that they are given) take at least this many bytes; 0 means no bound. So one task may exceed the bound.
  std::size_t max_pending_bytes = 0;
  /// How the pool treats a submit that finds no room. A submit that waits reads contiguous ranges that it was given as
  /// lvalues when its turn comes, so they must live until it completes.
  overload when_full = overload::wait;
  /// How long a cancelled or overdue task may take to heed stop_requested() before its worker is killed.
  std::chrono::milliseconds cancel_grace = std::chrono::milliseconds{500};
  /// Most tasks handed to one worker ahead of time when tasks are short, 1 to 64; 1 turns this off.
  unsigned window = 64;
  /// For how long the pool and its idle workers may poll before they sleep, while there are CPUs to spare: waking up
  /// takes longer than a short task. At most 1 s; zero: they sleep as soon as nothing is left to do.
  std::chrono::microseconds spin = std::chrono::microseconds{50};
  /// A function that has killed this many workers, and has done so in more than nine of ten runs, is quarantined: its
  /// submits, also those that wait, fail at once with errc::quarantined. One is let through after a second, then after
  /// two and so on up to a minute; the first run that does not kill its worker ends the quarantine. 0: never.
  unsigned quarantine_function_after = 0;
  /// A call (a function and the bytes of its arguments) that has killed this many workers, in the attempts of one task
  /// or over several submits, fails at once with errc::quarantined for the next ten minutes. The last 64 such calls are
  /// remembered; calls with arrays of the pool or with more than 64 KiB are not. 0: never.
  unsigned quarantine_call_after = 0;
  /// Runs in each worker before its first task: a function, or shmpool::bind(function, arguments...). If it throws or
  /// crashes, tasks end with errc::pool_broken, whose text says so, until a later attempt succeeds.
  bound_function initializer = {};
  /// Runs in each worker that leaves in order (it was retired or idle, or the pool was shut down), before the worker
  /// calls exit(), which runs atexit functions and destroys static objects. All of this has two seconds. A finalizer
  /// that throws or crashes makes no task fail: only on_worker_exit shows it.
  bound_function finalizer = {};
  /// Processes that tasks have started (programs, forks, and their descendants) are killed when their worker ends,
  /// however it ends. True leaves them running, for tasks that start daemons. docs/guarantees.md says which are found.
  bool leave_descendants = false;
  /// Added to the nice value of the workers, 0 to 19.
  int nice = 0;
  /// CPUs that the workers may run on; empty: the CPUs of this process.
  cpu_set cpu_affinity = {};
  /// Resource limits set in each worker: RLIMIT_* and the value for both the soft and the hard limit.
  resource_limits rlimits = {};
  /// Called on the pool's executor when the pool learns that a worker has ended, except when the pool object is
  /// destroyed. A pool without work does not look; it learns of the end with the next submit, or stats(). Called on
  /// several threads at once if several run the executor's context. Destroyed with the last copy of these options and
  /// with the pool, never while the pool holds a lock: the function may use, own and destroy the pool.
  callback<void(const worker_exit&)> on_worker_exit = {};
};

struct task_options {
  /// Most time that the task may run, counted from the start of the run; zero means no limit. A task that runs longer
  /// completes with errc::deadline_exceeded: when it heeds stop_requested(), and `cancel_grace` later at the latest.
  /// Each attempt has this much time.
  std::chrono::nanoseconds timeout = std::chrono::nanoseconds::zero();
  /// Most time until the task has ended, counted from submit() and through all attempts; zero means no limit. A task
  /// that then waits, for room or for a worker, ends at once with errc::deadline_exceeded; a running task ends as with
  /// `timeout`.
  std::chrono::nanoseconds deadline = std::chrono::nanoseconds::zero();
  /// How long this task may take to heed stop_requested() when it is cancelled or overdue, before its worker is killed;
  /// not set: pool_options::cancel_grace.
  std::optional<std::chrono::milliseconds> cancel_grace = std::nullopt;
  /// True if running the task twice does no harm: the pool may then run it again after its worker has died.
  bool idempotent = false;
  /// Most runs of an idempotent task, at least 1.
  unsigned attempts = 1;
  /// Called on the pool's executor with the number from 0 to 1 that the task gives to this_task::report_progress(). Not
  /// called any more once the task has completed. Like on_worker_exit, it may use, own and destroy the pool.
  callback<void(double)> on_progress = {};
};

}  // namespace shmpool
