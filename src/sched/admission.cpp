// Admission: tasks are held, and let in oldest first, until few enough are under way.
#include "sched/scheduler_impl.hpp"

#include <algorithm>

namespace shmpool::sched {

void scheduler::impl::admit_held() {
  while (!held_.empty() && has_room()) {
    const index_type task = held_.front();
    held_.remove(tasks_, task);
    tasks_[task].state = task_state::admitted;
    ++admitted_;
    emit(action::kind::admit, no_index, task);
  }
}

void scheduler::impl::accept(index_type task, const task_spec& spec, time_point now) {
  task_record& record = tasks_[task];
  record.handle = spec.handle;
  record.order = ++submits_;
  record.warm_workers = spec.warm_workers;
  record.bytes = spec.bytes;
  record.kind = spec.kind;
  record.cost = spec.expected ? std::max(*spec.expected, duration::zero()) : unknown;
  record.timeout = std::max(spec.timeout, duration::zero());
  record.deadline = spec.deadline;
  record.cancel_grace = std::max(spec.cancel_grace.value_or(settings_.cancel_grace), duration::zero());
  record.attempts_left = std::max(spec.attempts, 1U);
  record.state = task_state::queued;
  bytes_ += record.bytes;
  if (staff() == 0) crashes_.forget_failed_starts();  // no worker would run it, so starting one is tried at once
  record.aside = kinds_.risky(record.kind);
  (record.aside ? aside_ : queue_).push_back(tasks_, task);
  await_deadline(task);
  if (record.deadline <= now) finish(task, failure::deadline_exceeded);
  else kinds_.taken_in(record.kind, now);
}

}  // namespace shmpool::sched
