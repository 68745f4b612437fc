// Decides, and does nothing else: which worker runs which task, when a worker is started, stopped or killed, how each
// task ends. Events go in with the time as an argument, actions come out. No I/O, no clock, no lock, no Asio.
//
// Thread safety: none; the engine's lock serialises all calls.
#pragma once

#include <shmpool/detail/cancel_kind.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace shmpool::sched {

using time_point = std::chrono::steady_clock::time_point;
using duration = std::chrono::nanoseconds;

/// Names one submitted task for as long as the process lives; never 0, never used twice.
using task_id = std::uint64_t;
/// Names one worker process for as long as the pool lives; never 0, never used twice.
using worker_id = std::uint32_t;
/// The engine's name for its record of a task. The scheduler keeps it and hands it back.
enum class task_handle : std::uint32_t {};
inline constexpr task_handle no_task{std::numeric_limits<std::uint32_t>::max()};

struct options {
  /// Most workers that have tasks at once. A worker that is about to leave exists beside its replacement.
  unsigned max_workers = 1;
  /// Workers that are kept even when there are no tasks for them.
  unsigned min_workers = 0;
  /// A worker leaves when it has run this many tasks; 0: never.
  unsigned max_tasks_per_worker = 0;
  /// Most tasks handed to one worker, the running one included.
  unsigned window = 64;
  /// How much expected work may be handed over behind the running task.
  duration lookahead = std::chrono::microseconds{200};
  /// A worker that has been silent for this long runs a task that takes longer than expected: the tasks that wait
  /// behind it go to other workers that have room. Longer than the lookahead takes to run where workers share CPUs.
  duration patience = std::chrono::milliseconds{1};
  duration cancel_grace = std::chrono::milliseconds{500};
  /// How long the result of a task may take to arrive once its worker has begun a later task.
  duration result_grace = std::chrono::seconds{1};
  /// How long a worker may take to leave, once it was told to or has announced it, before it is killed.
  duration leave_grace = std::chrono::seconds{2};
  /// Most tasks, waiting and running; 0: no bound.
  std::size_t max_pending = 0;
  /// No further task is taken in while the tasks already taken in have at least this many bytes; 0: no bound.
  std::uint64_t max_pending_bytes = 0;
  /// Starting pauses after more rounds than this of workers that died before they had a task; see crash_monitor.hpp.
  unsigned crash_limit = 3;
  /// A worker that was up for this long counts as one that can be kept alive, whatever ended it.
  duration crash_window = std::chrono::seconds{1};
  /// After this many rounds, and with no worker up, the pool is broken until a worker comes up again; 0: never.
  unsigned broken_limit = 7;
  /// The first pause; doubles up to 2 s.
  duration backoff = std::chrono::milliseconds{100};
  /// A task is lost when this many workers have died with it at the head of their list and nothing begun, each started
  /// after the death before was known.
  unsigned unbegun_limit = 5;
  /// Tasks of kinds that kill often wait until no others do; but one of them has its turn after this time even so.
  duration patience_aside = std::chrono::milliseconds{20};
  /// A kind of tasks that has killed this many workers, and nearly always did, is quarantined; 0: never ...
  unsigned quarantine_after = 0;
  /// ... and one of its tasks is let through after this time, which doubles up to a minute if that task kills, too.
  duration quarantine_time = std::chrono::seconds{1};
};

struct task_spec {
  task_handle handle = no_task;  ///< handed back in every action that names the task
  std::optional<duration>
      expected;            ///< expected run time, if the caller knows it; else the usual run time of its kind, or long
  std::uint32_t kind = 0;  ///< small number of the tasks that run alike; 0: like no other
  duration timeout = duration::zero();      ///< most time of one run; zero: none
  time_point deadline = time_point::max();  ///< when the task must have ended, queued or running, in whichever run
  std::optional<duration> cancel_grace;     ///< instead of options::cancel_grace
  unsigned attempts = 1;                    ///< how often it may start; more than 1 only for idempotent tasks
  std::uint64_t warm_workers = 0;  ///< hint: bit (worker id modulo 64) is set where its segments are mapped already
  std::uint64_t bytes = 0;         ///< its share of max_pending_bytes
};

using detail::cancel_kind;

/// How a task ended without a reply from its worker.
enum class failure : std::uint8_t {
  none,
  cancelled,          ///< operation_aborted
  deadline_exceeded,  ///< it ran longer than its timeout, or its deadline has passed
  worker_lost,  ///< its worker, action.worker, died while the task ran; or, with action.begun false, see unbegun_limit
  worker_start_failed,  ///< no worker is alive and none could be started
  pool_broken,          ///< workers cannot be kept alive until they have a task, or break_pool() was called
  quarantined,          ///< its kind was quarantined while it waited
  pool_stopped,         ///< stop() was called; operation_aborted
};

struct action {
  enum class kind : std::uint8_t {
    start_worker,   ///< fork `worker`; answer with worker_started() or worker_start_failed(). Tasks may follow at once
    assign,         ///< send `task` to `worker`
    request_stop,   ///< make this_task::stop_requested() true for `task`, which runs on `worker`
    admit,          ///< `task` was held and has room now: answer with submit() or withdraw()
    retire_worker,  ///< tell `worker`, which has no task, to leave; answer with worker_exited() when it has
    kill_worker,    ///< SIGKILL `worker`; answer with worker_exited() when it is dead
    complete,       ///< `task` ends with `why`; the scheduler has forgotten it
    drained,        ///< shutdown() or stop() was called, and no task and no worker is left
  };
  kind what{};
  worker_id worker = 0;
  task_id task = 0;
  task_handle handle = no_task;  ///< task_spec::handle, where the action names a task
  failure why = failure::none;
  bool lasting = false;  ///< start_worker: the worker is one of min_workers, so it must not leave when idle
  bool begun = true;     ///< complete with worker_lost: the task had begun
};

/// The scheduler's view of the slots in a worker's control page, for tasks whose assignment next_action() has returned
/// and whose worker has not been reported dead. Implementations touch memory only, no system calls.
class claims {
 public:
  /// Takes back a task that was assigned to `worker`. True if the worker has not started the task and never will.
  virtual bool take_back(worker_id worker, task_id task) noexcept = 0;
  /// When `worker` started `task`, not after `now`; or nothing if it has not.
  virtual std::optional<time_point> start_time(worker_id worker, task_id task, time_point now) noexcept = 0;

 protected:
  ~claims() = default;
};

enum class pool_health : std::uint8_t {
  healthy,
  failing,  ///< workers cannot be started, or die before they have a task; starting pauses
  broken,   ///< failing, and no worker is left: tasks are refused until it is time to try again
  lost,     ///< break_pool() was called: for good
};

struct counts {
  std::size_t held = 0;           ///< waiting for room
  std::size_t queued = 0;         ///< waiting in the scheduler, or admitted and not submitted yet
  std::size_t assigned = 0;       ///< handed to a worker, running ones included
  std::uint64_t bytes = 0;        ///< task_spec::bytes of all queued and assigned ones
  unsigned workers = 0;           ///< started or starting, not yet exited
  unsigned starting_workers = 0;  ///< of these, not known to exist yet
  unsigned idle_workers = 0;      ///< of these, without a task and to be given one
  unsigned leaving_workers = 0;   ///< of these, told to leave, or killed
  std::uint64_t deaths = 0;       ///< workers that ended without being asked to
  std::size_t quarantined_kinds = 0;
  pool_health health = pool_health::healthy;
  std::optional<time_point> next_start;  ///< unless healthy: no worker is started before
};

class scheduler {
 public:
  scheduler(const options& settings, claims& slots);
  ~scheduler();
  scheduler(const scheduler&) = delete;
  scheduler& operator=(const scheduler&) = delete;

  // ---- Events. Each may leave actions behind; run next_action() until it is empty after each event or batch of
  // events. An action that a later event of the batch has undone (an assignment to a worker that is dead by then) is
  // not returned.

  /// Takes in a new task, or nothing and returns 0: if there is no room (max_pending, max_pending_bytes), after
  /// shutdown() or stop(), or when refuses(). The first task after a pause of a broken pool has a worker started as a
  /// probe.
  task_id submit(const task_spec& task, time_point now);
  /// A new task of which only handle and deadline are known yet. Held tasks wait for room in the order of these calls;
  /// 0 after shutdown(), stop() or when refuses(). `admit` follows, perhaps at once, unless the task ends before: by
  /// its deadline, say.
  task_id hold(task_handle handle, time_point deadline, time_point now);
  task_id hold(task_handle handle, time_point now) { return hold(handle, time_point::max(), now); }
  /// Submits an admitted task, as it is now. If it was cancelled or stopped since, or is overdue, it completes as such.
  void submit(task_id admitted, const task_spec& task, time_point now);
  /// Forgets a task that was admitted and cannot be submitted; the engine completes it itself.
  void withdraw(task_id admitted, time_point now);
  /// `worker` exists; it may have been assigned tasks before this.
  void worker_started(worker_id worker, time_point now);
  /// `worker` is up: it has set itself up and can run tasks. May come before worker_started().
  void worker_ready(worker_id worker, time_point now);
  /// `worker` says that it cannot be set up, and leaves without having begun a task: its tasks go back to the queue. If
  /// no other worker is up, every waiting task completes with pool_broken.
  void worker_unfit(worker_id worker, time_point now);
  /// `worker` could not be started: its tasks go back to the queue; if no other worker is alive, every queued task
  /// completes with worker_start_failed, otherwise starting is tried again after a pause.
  void worker_start_failed(worker_id worker, time_point now);
  /// The result of `task` has arrived from `worker`; the engine completes it itself (no `complete` action). `run` is
  /// how long it ran. False if the task is not known or not assigned to that worker: then the worker has violated the
  /// protocol, or stop() or break_pool() has ended the task; nothing changed. A result that arrives after request_stop
  /// or kill_worker counts as a result. What follows is decided once for a batch of results, in next_action().
  bool replied(worker_id worker, task_id task, duration run, time_point now);
  /// An assigned task could not be sent: the engine completes it itself, and the scheduler learns nothing from it.
  /// False as for replied().
  bool not_sent(worker_id worker, task_id task, time_point now);
  /// The worker is dead and everything it sent has been processed. `started`: the task that it was running, if any;
  /// more than one if it took finished results with it (its stream was given up, say). Started tasks are lost (or tried
  /// again, if attempts are left); those it had not started go back to the head of the queue, in order. A started task
  /// that was to end anyway, overdue or terminally cancelled, completes with that reason instead of worker_lost. A task
  /// that was asked to stop is not tried again: it completes as cancelled. `by_pool`: the task did not cause the death,
  /// so the death is not held against it.
  void worker_exited(worker_id worker, std::span<const task_id> started, time_point now, bool by_pool = false);
  /// The same with one task, or 0.
  void worker_exited(worker_id worker, task_id started, time_point now) {
    worker_exited(worker, std::span(&started, started != 0 ? 1U : 0U), now);
  }
  /// The worker has outgrown its memory limit and gets no more tasks: it keeps those that it has started, and is
  /// replaced and retired.
  void recycle(worker_id worker, time_point now);
  /// The worker says that it leaves of its own accord, as it has been idle for long. worker_exited() follows.
  void worker_leaves(worker_id worker, time_point now);
  /// See the cancellation table of the docs. Unknown tasks are ignored.
  void cancel(task_id task, cancel_kind kind, time_point now);
  /// Time has passed: acts on every deadline that is due. See next_deadline().
  void tick(time_point now);
  /// No further submits; workers are retired when the last task has ended. `drained` follows.
  void shutdown(time_point now);
  /// Every task completes with pool_stopped and every worker is killed, now. `drained` follows.
  void stop(time_point now);
  /// Gives up: every task completes with pool_broken, workers are killed. broken() is true from here, for good.
  void break_pool(time_point now);

  /// Takes the next action; false if there is none.
  bool next_action(action& out);
  /// Whether the last event was a submit that joined a queue in which nothing moves: it has led to no action, and to no
  /// deadline but that of the task.
  bool only_queued() const noexcept;

  /// When tick() must be called at the latest, or nothing. May be early, never late. After tick(now) it is later than
  /// `now`.
  std::optional<time_point> next_deadline() const;
  bool broken() const noexcept;
  /// Whether a task that comes now is refused as the pool is broken: for good, or until it is time to try again.
  bool refuses(time_point now) const noexcept;
  /// Whether a task of this kind may be submitted. A quarantined kind lets one task through now and then.
  bool admits(std::uint32_t kind, time_point now) const noexcept;
  /// When the next task of a quarantined kind may be submitted.
  time_point admits_at(std::uint32_t kind) const noexcept;
  /// Whether the task was admitted and neither submitted nor withdrawn yet.
  bool awaits_submit(task_id task) const noexcept;
  counts count() const noexcept;
  /// The parts of count() that are asked for often: held, queued and assigned tasks; assigned tasks; workers that have
  /// a task and are not to leave.
  std::size_t task_count() const noexcept;
  std::size_t assigned_count() const noexcept;
  unsigned busy_workers() const noexcept;
  /// The handle of a task that is assigned to `worker`, or no_task.
  task_handle assigned_handle(worker_id worker, task_id task) const noexcept;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace shmpool::sched
