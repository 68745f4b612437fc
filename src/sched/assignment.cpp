// Which worker gets which task.
#include "sched/scheduler_state.hpp"

#include <algorithm>

namespace shmpool::sched {

void scheduler::impl::dispatch(time_point now) {
  while (!queue_.empty()) {
    const index_type task = queue_.front();
    const index_type worker = choose_worker(tasks_[task], now);
    if (worker == no_index) return;
    queue_.remove(tasks_, task);
    assign(task, worker, now);
  }
  rebalance(now);
  // Workers have died or a pause has held them back since these tasks were handed out: the newcomer will take its
  // share.
  if (workers_.idle_count() == 0 && may_widen() && crowded() && may_start(now)) workers_.set_idle(start_worker());
}

index_type scheduler::impl::choose_worker(const task_record& task, time_point now) {
  if (may_widen()) {
    if (workers_.idle_count() != 0) return choose_idle(task.warm_workers);
    if (may_start(now)) return start_worker();
  }
  return is_long(task) ? no_index : choose_busy(task);
}

index_type scheduler::impl::choose_idle(std::uint64_t warm_workers) const noexcept {
  const index_type latest = workers_.most_recently_idle();
  if (warm_workers == 0) return latest;
  for (index_type index = latest; index != no_index; index = workers_[index].less_recently_idle) {
    if ((warm_workers >> (workers_[index].id % 64) & 1) != 0) return index;
  }
  return latest;
}

index_type scheduler::impl::choose_busy(const task_record& task) const noexcept {
  index_type best = no_index;
  duration least{};
  for (index_type index = 0; index < workers_.slots(); ++index) {
    const worker_record& worker = workers_[index];
    // One without tasks is there to take the place of another one, which is not gone yet.
    if (!worker.usable() || worker.tasks.empty()) continue;
    if (worker.long_tasks != 0 || worker.tasks.size() >= settings_.window) continue;
    if (task.cost > settings_.lookahead - worker.behind) continue;
    // Where estimates do not tell workers apart, as with tasks that take no time at all, numbers do.
    if (best == no_index || worker.behind < least ||
        (worker.behind == least && worker.tasks.size() < workers_[best].tasks.size())) {
      best = index;
      least = worker.behind;
    }
  }
  return best;
}

void scheduler::impl::rebalance(time_point now) {
  // Spares the usual case, few tasks and workers to spare, a look at every worker.
  if (workers_.idle_count() == 0 || (behind_others_ == 0 && workers_.starting() == 0)) return;
  while (may_widen()) {
    const index_type idle = workers_.most_recently_idle();
    if (idle == no_index || workers_[idle].state != worker_state::ready) return;
    index_type fullest = no_index;
    for (index_type index = 0; index < workers_.slots(); ++index) {
      const worker_record& worker = workers_[index];
      if (!worker.usable() || worker.waiting() == 0) continue;
      if (fullest == no_index || worker.waiting() > workers_[fullest].waiting()) fullest = index;
    }
    if (fullest == no_index) return;
    bool moved = move_half(fullest, idle, now);
    // All that it has may have been started, its replies under way; then anybody else's tasks will do.
    for (index_type index = 0; !moved && index < workers_.slots(); ++index) {
      moved =
          index != fullest && workers_[index].usable() && workers_[index].waiting() != 0 && move_half(index, idle, now);
    }
    if (!moved) return;
  }
}

bool scheduler::impl::move_half(index_type from, index_type to, time_point now) {
  const std::size_t share = std::min<std::size_t>((workers_[from].waiting() + 1) / 2, workers_[to].tasks_left);
  const index_type running = workers_[from].state == worker_state::ready ? workers_[from].tasks.front() : no_index;
  scratch_.clear();
  for (index_type task = workers_[from].tasks.back(); task != running && scratch_.size() < share;) {
    const index_type ahead = tasks_[task].previous;
    if (take_back(task)) {
      detach(task);
      scratch_.push_back(task);
    }
    task = ahead;
  }
  // Taken from the end, handed over from the front.
  for (auto task = scratch_.rbegin(); task != scratch_.rend(); ++task) assign(*task, to, now);
  return !scratch_.empty();
}

bool scheduler::impl::crowded() const noexcept {
  if (behind_others_ == 0) return false;
  for (index_type index = 0; index < workers_.slots(); ++index) {
    if (workers_[index].usable() && workers_[index].tasks.size() > 1) return true;
  }
  return false;
}

void scheduler::impl::assign(index_type task, index_type worker, time_point now) {
  task_record& record = tasks_[task];
  worker_record& target = workers_[worker];
  workers_.set_busy(worker);
  record.state = task_state::assigned;
  record.worker = worker;
  record.sent = false;
  ++(target.tasks.empty() ? busy_ : behind_others_);
  target.tasks.push_back(tasks_, task);
  workers_.count_task(worker, true);
  if (is_long(record)) {
    ++target.long_tasks;
  } else {
    target.short_work += record.cost;
  }
  note_behind(target);
  ++assigned_;
  if (record.timeout != duration::zero()) deadlines_.set(task, later(now, record.timeout));
  emit(action::kind::assign, worker, task);
}

void scheduler::impl::detach(index_type task) noexcept {
  task_record& record = tasks_[task];
  worker_record& holder = workers_[record.worker];
  holder.tasks.remove(tasks_, task);
  --(holder.tasks.empty() ? busy_ : behind_others_);
  if (is_long(record)) {
    --holder.long_tasks;
  } else {
    holder.short_work -= record.cost;
  }
  if (record.doom != failure::none) --holder.doomed;
  note_behind(holder);
  --assigned_;
  deadlines_.clear(task);
  if (holder.tasks.empty() && holder.usable()) workers_.set_idle(record.worker);
  record.worker = no_index;
}

void scheduler::impl::note_behind(worker_record& worker) const noexcept {
  worker.behind = worker.short_work;
  if (worker.tasks.empty()) return;
  const task_record& first = tasks_[worker.tasks.front()];
  if (!is_long(first)) worker.behind -= first.cost;
}

void scheduler::impl::enqueue(index_type task) noexcept {
  tasks_[task].state = task_state::queued;
  queue_.insert_by_order(tasks_, task);
}

}  // namespace shmpool::sched
