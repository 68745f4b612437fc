// The scheduler's state and the steps that its events are made of. scheduler.cpp has the events, admission.cpp lets
// held tasks in, assignment.cpp decides which worker gets which task, staffing.cpp when workers are started and
// retired, endings.cpp how tasks and workers end, blame.cpp what a worker's death is held against.
//
// Thread safety: none.
#pragma once

#include "process/assert.hpp"
#include "sched/crash_monitor.hpp"
#include "sched/deadline_heap.hpp"
#include "sched/index_set.hpp"
#include "sched/indexed_heap.hpp"
#include "sched/kind_table.hpp"
#include "sched/scheduler.hpp"
#include "sched/task_table.hpp"
#include "sched/worker_table.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

namespace shmpool::sched {

struct scheduler::impl {
  impl(const options& settings, claims& slots)
      : settings_(settings), slots_(slots), crashes_(settings), kinds_(settings) {
    settings_.max_workers = std::max(settings_.max_workers, 1U);
  }

  static constexpr duration unknown = kind_table::unknown;

  /// Every event begins with this call: takes all memory that the event may need, so that no event fails half done.
  void prepare() {
    stalled_ = only_queued_ = false;
    // Also for the task that a submit adds, so that the events after it need no more memory.
    const std::size_t tasks = std::size_t{tasks_.slots()} + 1, workers = std::size_t{workers_.slots()} + 1;
    if (tasks > room_for_tasks_ || workers > room_for_workers_ || !actions_.empty()) make_room(tasks, workers);
  }
  void make_room(std::size_t tasks, std::size_t workers);
  /// Every event ends with this call, or has next_action() make it: leaves nothing undone that could be done now.
  void settle(time_point now);

  // ---- Admission.

  bool has_room() const noexcept {
    if (settings_.max_pending != 0 && tasks_.size() - held_.size() >= settings_.max_pending) return false;
    // The bytes of an admitted task are known once it is submitted, so the next task waits for that.
    return settings_.max_pending_bytes == 0 || (bytes_ < settings_.max_pending_bytes && admitted_ == 0);
  }
  /// Lets held tasks in, oldest first, as long as there is room.
  void admit_held();
  /// Whether a task may come in at all, whenever its turn comes. A task that comes to a broken pool after the pause is
  /// its probe.
  bool lets_in(time_point now) noexcept {
    if (closing_ || broken_) return false;
    if (!crashes_.refuses()) return true;
    if (!crashes_.probe_due(now)) return false;
    crashes_.begin_probe();
    return true;
  }
  /// A task with room gets into the queue, unless its deadline has passed.
  void accept(index_type task, const task_spec& spec, time_point now);
  /// The record is vacant from here; the task must be in no list.
  void forget(index_type task) noexcept {
    deadlines_.clear(task);
    SHMPOOL_ASSERT(bytes_ >= tasks_[task].bytes);
    bytes_ -= tasks_[task].bytes;
    tasks_.release(task);
  }

  // ---- Assignment.

  /// Hands out queued tasks, then shares out tasks that wait behind others.
  void dispatch(time_point now);
  /// Whether dispatch() would find nothing to do: nothing has happened since it last found nothing, and no time has
  /// come at which it looks for more.
  bool is_stalled(time_point now) const noexcept {
    return stalled_ && looks_.due(now) == no_index && aside_.empty() && !(start_wanted_at_ && *start_wanted_at_ <= now);
  }
  /// Hands out the first task in line, if a worker can be found for it.
  bool dispatch_one(time_point now);
  bool hand_out(task_list& from, time_point now);
  /// A kind has become risky, or is no longer: moves its tasks from the queue aside, or back, each to its place.
  void change_lines(task_list& from, task_list& to, std::uint32_t kind) noexcept;
  /// Takes the usual run time of the kind, as late as possible: of a thousand tasks that came together before anything
  /// was known of their kind, all but the first are known to be short by now.
  void learn_cost(task_record& task) const noexcept {
    if (task.cost == unknown) task.cost = kinds_.usual_run(task.kind);
  }
  /// The worker that `task` goes to, perhaps a new one; no_index if it has to wait.
  index_type choose_worker(const task_record& task, time_point now);
  index_type choose_idle(std::uint64_t warm_workers) const noexcept;
  /// The open worker with the least to do, or no_index.
  index_type least_busy() noexcept;
  /// Something was heard of the worker.
  void hear(index_type worker, time_point now) noexcept;
  /// Finds the workers that run a task for longer than expected.
  void find_stuck(time_point now) noexcept;
  /// Queues the tasks that wait at stuck workers, if other workers have room.
  void recall_stranded(time_point now) noexcept;
  /// Whether a worker that is not stuck could be given a short task now.
  bool has_room_elsewhere(time_point now) noexcept;
  /// Takes back and queues the tasks that wait behind the first task of a worker.
  void recall_waiting(index_type worker) noexcept;
  /// Lets idle workers take tasks from behind others. Only for an empty queue.
  void rebalance(time_point now);
  /// The worker at which the most tasks wait that it may be willing to share, or no_index.
  index_type fullest() noexcept;
  /// Moves about half of the tasks that wait at one worker to an idle one; false if all of them have been started.
  bool move_half(index_type from, index_type to, time_point now);
  /// True if a task waits behind another one at a worker, so that one more worker would help.
  bool crowded() noexcept;
  /// Whether one more worker may be given tasks. Workers beyond that only replace workers that leave.
  bool may_widen() const noexcept { return busy_ < settings_.max_workers; }
  void assign(index_type task, index_type worker, time_point now);
  /// Takes a task off its worker's list. It must then be queued, assigned or completed.
  void detach(index_type task) noexcept;
  /// Tasks wait at the worker that others could take, if it is usable.
  void note_waiting(index_type worker) noexcept {
    const sharing now_waiting(workers_[worker]);
    if (now_waiting.waiting == 0) return;
    const sharing* const known = sharers_.key(worker);
    if (!known || now_waiting < *known) sharers_.set(worker, now_waiting);
  }
  /// The worker may have become open, or has less to do than it had.
  void note_load(index_type worker) noexcept;
  /// Gives a task back its place in line, searched from `near`, a task in the queue, or from the front.
  void enqueue(index_type task, index_type near = no_index) noexcept;
  bool is_long(const task_record& task) const noexcept { return task.cost > settings_.lookahead; }

  // ---- Staffing.

  /// Workers that are to stay.
  std::size_t staff() const noexcept { return workers_.size() - workers_.leaving() - workers_.spent(); }
  /// Whether a worker may be started now. If only a pause forbids it, the end of the pause becomes a deadline.
  bool may_start(time_point now) noexcept;
  index_type start_worker();
  /// Starts the workers that are missing from min_workers.
  void keep_minimum(time_point now);
  /// Replaces workers that get no more tasks, and retires those of them that have none left.
  void replace_spent(time_point now);
  void retire(index_type worker, time_point now);
  /// The worker leaves of its own accord: the tasks that it has not begun are queued.
  void retire_itself(index_type worker, time_point now);
  /// Kills workers that were to leave and have not.
  void kill_stragglers(time_point now);
  /// When kill_stragglers() is due.
  std::optional<time_point> next_straggler() const noexcept;

  // ---- Blame.

  /// A worker that nobody had asked to end, and that had `started` these tasks, is dead and not buried yet: holds the
  /// death against a task, its kind or the pool. Returns the kind that is quarantined for it, or 0.
  std::uint32_t blame(index_type worker, std::span<const task_id> started, bool by_pool, time_point now);
  /// The worker ends before it had a task; `certain`: it says itself that it cannot work. If that breaks the pool, all
  /// other workers are killed and the waiting tasks turned away.
  void lose(index_type worker, bool certain, time_point now);
  /// Ends every waiting task, as the pool is broken (an admitted task is checked when it is submitted); or, as a kind
  /// is quarantined, the queued tasks of that kind.
  void turn_away();
  void end_queued(failure why);
  void turn_away(std::uint32_t kind);
  /// Whether some worker has yet to come up.
  bool awaits_proof() const noexcept;

  // ---- Endings.

  /// The record of a task that `worker` can know of, or no_index.
  index_type find_sent(worker_id worker, task_id task) const noexcept {
    const index_type index = tasks_.find(task);
    if (index == no_index) return no_index;
    const task_record& record = tasks_[index];
    const bool sent = record.state == task_state::assigned && record.sent && workers_[record.worker].id == worker;
    return sent ? index : no_index;
  }
  /// True if the worker has not started the task, and never will.
  bool take_back(index_type task) noexcept;
  /// Takes back and queues every task that the worker has not started.
  void recall(index_type worker) noexcept;
  void request_stop(index_type task);
  /// The task has to end now: its worker is killed unless the result comes within cancel_grace.
  void doom(index_type task, failure why, time_point now);
  /// Has the task looked at again when its deadline comes.
  void await_deadline(index_type task) {
    // A vacant record has none in the heap, so there is nothing to clear where the task has no deadline.
    if (tasks_[task].deadline != time_point::max()) deadlines_.set(task, tasks_[task].deadline);
  }
  /// The time to look at the task has come: its deadline, the end of its time to run, or that of a grace.
  void expire(index_type task, time_point now);
  /// Kills the worker of a doomed task, unless the task must be done already.
  void kill_for(index_type task, time_point now);
  /// True if its worker has begun a later task.
  bool overtaken(index_type task, time_point now) const noexcept;
  void kill(index_type worker);
  void kill_all();
  /// The worker is gone. Its `started` tasks are lost or tried again; its other tasks are queued, or end as was asked.
  void bury(index_type worker, std::span<const task_id> started, time_point now);
  /// Emits `complete` and forgets the task, which must be in no list.
  void complete(index_type task, failure why, worker_id lost_with = 0, bool begun = true);
  /// Ends a task that was not started and never will be, or an admitted one; finish_all() ends any task with it.
  void finish(index_type task, failure why);
  void finish_all(failure why);
  void break_pool();
  /// After shutdown() or stop(): retires the workers when no task is left, and says `drained` when no worker is.
  void wind_down(time_point now);

  /// Orders workers by how long a new task would wait there. Equal estimates, as of tasks that take no time at all, are
  /// ordered by the number of tasks, then by the worker's place.
  struct load {
    duration behind{};
    std::uint64_t tasks_and_place = 0;
    bool operator<(const load& other) const noexcept {
      return behind != other.behind ? behind < other.behind : tasks_and_place < other.tasks_and_place;
    }
  };

  load load_of(index_type index) const noexcept {
    const task_list& tasks = workers_[index].tasks;
    return {workers_[index].short_work - tasks_[tasks.front()].cost, std::uint64_t{tasks.size()} << 32 | index};
  }
  /// Whether more may be handed over to a worker that has tasks.
  bool is_open(const worker_record& worker) const noexcept {
    return !worker.tasks.empty() && worker.tasks.size() < settings_.window && worker.long_tasks == 0 && !worker.stuck &&
           worker.usable();
  }

  /// Orders workers by how many tasks wait there, the most first. Of workers where one task waits, those come first
  /// that run another one.
  struct sharing {
    explicit sharing(const worker_record& worker) noexcept
        : waiting(2 * worker.waiting() + (worker.tasks.size() > 1 ? 1 : 0)) {}
    std::size_t waiting;
    bool operator<(const sharing& other) const noexcept { return waiting > other.waiting; }
  };

  action& emit(action::kind what, index_type worker, index_type task = no_index) {
    action& next = actions_.emplace_back();
    next.what = what;
    if (worker != no_index) next.worker = workers_[worker].id;
    if (task != no_index) {
      next.task = tasks_.id(task);
      next.handle = tasks_[task].handle;
    }
    return next;
  }
  bool still_meant(const action& what) noexcept;

  options settings_;
  claims& slots_;
  task_table tasks_;
  worker_table workers_;
  task_list held_;  ///< waits for room
  task_list queue_;
  task_list aside_;                            ///< queued, too, but of kinds that kill often
  time_point aside_turn_ = time_point::min();  ///< when one of those is due although others wait
  deadline_heap deadlines_;  ///< when to look at a task: its deadline, the end of its time to run, that of a grace
  deadline_heap looks_;      ///< when to look whether a worker with tasks has been silent for too long. May be early
  /// All open workers, perhaps others; a worker may have more to do than the key says. least_busy() finds out.
  indexed_heap<load> open_;
  index_set stuck_;  ///< workers that were found stuck, and at which tasks may still wait
  /// Workers where unstarted tasks may wait; no other usable worker has any. Fewer may wait there than the key says.
  indexed_heap<sharing> sharers_;
  crash_monitor crashes_;
  std::vector<action> actions_;
  std::size_t next_action_ = 0;  ///< actions before this one have been fetched
  kind_table kinds_;
  std::uint64_t deaths_ = 0;                   ///< of workers that nobody had asked to end
  std::vector<index_type> scratch_;            ///< kept for its capacity
  std::optional<time_point> start_wanted_at_;  ///< a worker is needed, and a pause ends then
  std::uint64_t submits_ = 0;
  std::size_t assigned_ = 0;
  std::size_t admitted_ = 0;          ///< tasks in state admitted
  std::size_t busy_ = 0;              ///< workers that have tasks
  std::uint64_t bytes_ = 0;           ///< of all tasks that were let in
  std::size_t room_for_tasks_ = 0;    ///< an event needs no memory while there are fewer records of tasks ...
  std::size_t room_for_workers_ = 0;  ///< ... and of workers, and no actions are left from the event before
  /// The first task in line could not be handed out, and since then others came behind it at most.
  bool stalled_ = false;
  bool only_queued_ = false;             ///< the last event was a task that came behind it
  std::optional<time_point> unsettled_;  ///< results have come in, last at this time, and settle() was not called since
  bool closing_ = false;
  bool broken_ = false;
  bool drained_ = false;
};

}  // namespace shmpool::sched
