// How tasks and workers end: taken back, stopped, overdue, killed, lost with their worker, drained.
#include "sched/scheduler_impl.hpp"

#include <algorithm>

namespace shmpool::sched {

bool scheduler::impl::take_back(index_type task) noexcept {
  const task_record& record = tasks_[task];
  if (record.sent && !slots_.take_back(workers_[record.worker].id, tasks_.id(task))) return false;
  workers_.count_task(record.worker, false);
  return true;
}

void scheduler::impl::recall(index_type worker) noexcept {
  for (index_type task = workers_[worker].tasks.front(); task != no_index;) {
    const index_type behind = tasks_[task].next;
    if (!tasks_[task].stop_requested && take_back(task)) {
      detach(task);
      enqueue(task);
    }
    task = behind;
  }
}

void scheduler::impl::request_stop(index_type task) {
  if (tasks_[task].stop_requested) return;
  tasks_[task].stop_requested = true;
  const index_type worker = tasks_[task].worker;
  if (workers_[worker].state != worker_state::killed) emit(action::kind::request_stop, worker, task);
}

void scheduler::impl::doom(index_type task, failure why, time_point now) {
  if (tasks_[task].doom != failure::none) return;  // the first reason names the failure
  const index_type worker = tasks_[task].worker;
  request_stop(task);
  tasks_[task].doom = why;
  ++workers_[worker].doomed;
  if (workers_[worker].state == worker_state::killed) {
    deadlines_.clear(task);  // nothing is left to do: its worker's exit ends the task
    return;
  }
  recall(worker);
  if (tasks_[task].cancel_grace > duration::zero()) {
    deadlines_.set(task, later(now, tasks_[task].cancel_grace));
  } else {
    kill_for(task, now);
  }
}

void scheduler::impl::kill_for(index_type task, time_point now) {
  // A worker runs one task after the other. If it has begun a later task, this one is done and its result is on the
  // way; killing the worker would kill the later task.
  task_record& record = tasks_[task];
  if (!record.result_due && overtaken(task, now)) {
    record.result_due = true;
    deadlines_.set(task, later(now, settings_.result_grace));
  } else {
    kill(record.worker);
  }
}

bool scheduler::impl::overtaken(index_type task, time_point now) const noexcept {
  const worker_id worker = workers_[tasks_[task].worker].id;
  for (index_type behind = tasks_[task].next; behind != no_index; behind = tasks_[behind].next) {
    if (tasks_[behind].sent && slots_.start_time(worker, tasks_.id(behind), now)) return true;
  }
  return false;
}

void scheduler::impl::expire(index_type task, time_point now) {
  deadlines_.clear(task);
  const task_record& record = tasks_[task];
  if (record.state != task_state::assigned) return finish(task, failure::deadline_exceeded);
  if (record.doom != failure::none) return kill_for(task, now);
  if (record.deadline <= now) {
    if (!record.stop_requested && take_back(task)) return finish(task, failure::deadline_exceeded);
    return doom(task, failure::deadline_exceeded, now);
  }
  std::optional<time_point> started;
  if (record.sent) started = slots_.start_time(workers_[record.worker].id, tasks_.id(task), now);
  // The worker wrote that time. A time in the future must not put the deadline off for ever.
  const time_point due = later(started ? std::min(*started, now) : now, record.timeout);
  if (due <= now) {
    doom(task, failure::deadline_exceeded, now);
  } else {
    deadlines_.set(task, std::min(due, record.deadline));
  }
}

void scheduler::impl::kill(index_type worker) {
  if (workers_[worker].state == worker_state::killed) return;
  workers_.set_state(worker, worker_state::killed);
  recall(worker);
  for (index_type task = workers_[worker].tasks.front(); task != no_index; task = tasks_[task].next) {
    deadlines_.clear(task);
  }
  emit(action::kind::kill_worker, worker);
}

void scheduler::impl::kill_all() {
  for (index_type worker = 0; worker < workers_.slots(); ++worker) {
    if (workers_[worker].state != worker_state::vacant) kill(worker);
  }
}

void scheduler::impl::bury(index_type worker, std::span<const task_id> started, time_point now) {
  const worker_id id = workers_[worker].id;
  workers_.set_state(worker, worker_state::killed);  // so that nothing below gives it more tasks
  while (!workers_[worker].tasks.empty()) {
    const index_type task = workers_[worker].tasks.front();
    task_record& record = tasks_[task];
    const bool was_started = record.sent && std::find(started.begin(), started.end(), tasks_.id(task)) != started.end();
    detach(task);
    if (record.doom != failure::none) {
      complete(task, record.doom);
    } else if (was_started && (--record.attempts_left == 0 || kinds_.quarantined(record.kind))) {
      complete(task, failure::worker_lost, id);
    } else if (!was_started && record.unbegun_deaths >= settings_.unbegun_limit) {
      complete(task, failure::worker_lost, id, false);
    } else if (record.stop_requested) {
      complete(task, failure::cancelled);  // it would be queued again, and to cancel a queued task is to remove it
    } else if (record.deadline <= now) {
      complete(task, failure::deadline_exceeded);
    } else {
      enqueue(task);
    }
  }
  workers_.release(worker);
}

void scheduler::impl::complete(index_type task, failure why, worker_id lost_with, bool begun) {
  action& made = emit(action::kind::complete, no_index, task);
  made.why = why;
  made.worker = lost_with;
  made.begun = begun;
  forget(task);
}

void scheduler::impl::finish(index_type task, failure why) {
  switch (tasks_[task].state) {
    case task_state::held: held_.remove(tasks_, task); break;
    case task_state::queued: (tasks_[task].aside ? aside_ : queue_).remove(tasks_, task); break;
    case task_state::assigned: detach(task); break;
    case task_state::admitted:
      // The engine is about to submit it, and completes it then.
      if (tasks_[task].doom == failure::none) tasks_[task].doom = why;
      return;
    case task_state::vacant: return;
  }
  complete(task, why);
}

void scheduler::impl::finish_all(failure why) {
  scratch_.clear();
  for (index_type task = 0; task < tasks_.slots(); ++task) {
    if (tasks_[task].state != task_state::vacant) scratch_.push_back(task);
  }
  std::sort(scratch_.begin(), scratch_.end(),
            [&](index_type a, index_type b) { return tasks_[a].order < tasks_[b].order; });
  for (const index_type task : scratch_) finish(task, why);
}

void scheduler::impl::break_pool() {
  broken_ = true;
  finish_all(failure::pool_broken);
  kill_all();
}

void scheduler::impl::wind_down(time_point now) {
  if (tasks_.size() != 0 || drained_) return;
  for (index_type worker = 0; worker < workers_.slots(); ++worker) {
    if (workers_[worker].working()) retire(worker, now);
  }
  if (workers_.size() != 0) return;
  drained_ = true;
  emit(action::kind::drained, no_index);
}

}  // namespace shmpool::sched
