// Blame for the death of a worker. A death in a task counts against the task and its kind; a death with tasks that the
// worker has not begun, against the first of them; only a death without tasks, before the worker had one, against the
// pool.
#include "sched/scheduler_impl.hpp"

#include <algorithm>

namespace shmpool::sched {

std::uint32_t scheduler::impl::blame(index_type worker, std::span<const task_id> started, bool by_pool,
                                     time_point now) {
  ++deaths_;
  worker_record& dead = workers_[worker];
  index_type running = no_index;
  for (index_type task = dead.tasks.front(); task != no_index; task = tasks_[task].next) {
    const bool begun = tasks_[task].sent && std::find(started.begin(), started.end(), tasks_.id(task)) != started.end();
    if (begun) running = task;  // those before it were done, and their results have gone with the worker
  }
  if (running != no_index) {
    crashes_.served(dead.id);
    if (by_pool) return 0;
    const std::uint32_t kind = tasks_[running].kind;
    const bool was_risky = kinds_.risky(kind);
    const bool quarantined = kinds_.killed(kind, now);
    if (!was_risky && kinds_.risky(kind)) change_lines(queue_, aside_, kind);
    return quarantined ? kind : 0;
  }
  if (dead.begun) crashes_.served(dead.id);
  const index_type next = dead.tasks.front();
  if (dead.up && next != no_index && tasks_[next].sent) {
    // One signal may have ended all idle workers; their deaths are noticed one by one, each worker with the task that
    // it was handed meanwhile.
    task_record& suspect = tasks_[next];
    if (dead.id > suspect.unbegun_until) {
      ++suspect.unbegun_deaths;
      suspect.unbegun_until = workers_.latest();
    }
  } else if (!dead.begun) {
    lose(worker, false, now);
  }
  return 0;
}

void scheduler::impl::lose(index_type worker, bool certain, time_point now) {
  const worker_record& dead = workers_[worker];
  crash_monitor::loss what;
  what.worker = dead.id;
  what.latest = workers_.latest();
  if (dead.up) what.lived = now - dead.up_since;
  what.certain = certain;
  bool others_up = false;
  for (index_type other = 0; other < workers_.slots(); ++other) {
    others_up = others_up || (other != worker && workers_[other].working() && workers_[other].up);
  }
  what.others_up = others_up;
  if (crashes_.lost(what, now) != crash_monitor::verdict::give_up) return;
  // No other worker is up, and waiting for each would only show the same end.
  for (index_type other = 0; other < workers_.slots(); ++other) {
    if (other != worker && workers_[other].working()) kill(other);
  }
}

void scheduler::impl::turn_away() {
  end_queued(failure::pool_broken);
  while (!held_.empty()) finish(held_.front(), failure::pool_broken);
}

void scheduler::impl::turn_away(std::uint32_t kind) {
  for (const task_list* each : {&queue_, &aside_}) {
    for (index_type task = each->front(); task != no_index;) {
      const index_type behind = tasks_[task].next;
      if (tasks_[task].kind == kind) finish(task, failure::quarantined);
      task = behind;
    }
  }
}

void scheduler::impl::end_queued(failure why) {
  while (!queue_.empty()) finish(queue_.front(), why);
  while (!aside_.empty()) finish(aside_.front(), why);
}

bool scheduler::impl::awaits_proof() const noexcept {
  for (index_type worker = 0; worker < workers_.slots(); ++worker) {
    if (workers_[worker].working() && !workers_[worker].up) return true;
  }
  return false;
}

}  // namespace shmpool::sched
