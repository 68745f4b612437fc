// Which worker gets which task.
#include "process/assert.hpp"
#include "sched/scheduler_impl.hpp"

#include <algorithm>

namespace shmpool::sched {

void scheduler::impl::dispatch(time_point now) {
  if (looks_.due(now) != no_index) find_stuck(now);
  if (!stuck_.empty()) recall_stranded(now);
  while (!queue_.empty() || !aside_.empty()) {
    if (!dispatch_one(now)) {
      stalled_ = !queue_.empty();
      return;
    }
  }
  rebalance(now);
  // Workers have died, or a pause has held back their start, since these tasks were handed out: a new worker will take
  // its share.
  if (workers_.idle_count() == 0 && may_widen() && crowded() && may_start(now)) workers_.set_idle(start_worker());
}

bool scheduler::impl::dispatch_one(time_point now) {
  if (!aside_.empty() && (queue_.empty() || now >= aside_turn_) && hand_out(aside_, now)) {
    aside_turn_ = later(now, settings_.patience_aside);
    return true;
  }
  return !queue_.empty() && hand_out(queue_, now);
}

bool scheduler::impl::hand_out(task_list& from, time_point now) {
  const index_type task = from.front();
  const duration told = tasks_[task].cost;
  learn_cost(tasks_[task]);
  const index_type worker = choose_worker(tasks_[task], now);
  if (worker == no_index) {
    tasks_[task].cost = told;  // more may be known when its turn comes
    return false;
  }
  from.remove(tasks_, task);
  assign(task, worker, now);
  return true;
}

void scheduler::impl::change_lines(task_list& from, task_list& to, std::uint32_t kind) noexcept {
  index_type last = no_index;  // where the next task's search starts, instead of at the front
  for (index_type task = from.front(); task != no_index;) {
    const index_type behind = tasks_[task].next;
    if (tasks_[task].kind == kind) {
      from.remove(tasks_, task);
      to.insert_by_order(tasks_, task, last);
      tasks_[task].aside = &to == &aside_;
      last = task;
    }
    task = behind;
  }
}

index_type scheduler::impl::choose_worker(const task_record& task, time_point now) {
  if (may_widen()) {
    if (workers_.idle_count() != 0) return choose_idle(task.warm_workers);
    if (may_start(now)) return start_worker();
  }
  if (is_long(task)) return no_index;
  const index_type worker = least_busy();
  return worker != no_index && task.cost <= settings_.lookahead - open_.first_key().behind ? worker : no_index;
}

index_type scheduler::impl::choose_idle(std::uint64_t warm_workers) const noexcept {
  const index_type latest = workers_.most_recently_idle();
  if (warm_workers == 0) return latest;
  for (index_type index = latest; index != no_index; index = workers_[index].less_recently_idle) {
    if ((warm_workers >> (workers_[index].id % 64) & 1) != 0) return index;
  }
  return latest;
}

index_type scheduler::impl::least_busy() noexcept {
  for (index_type first = open_.first(); first != no_index; first = open_.first()) {
    if (!is_open(workers_[first])) {
      open_.clear(first);  // note_load() lets it in again
      continue;
    }
    const load now_there = load_of(first);
    SHMPOOL_ASSERT(!(now_there < open_.first_key()));
    if (open_.first_key() < now_there) open_.raise_first(now_there);
    if (open_.first() == first) return first;
  }
  return no_index;
}

void scheduler::impl::hear(index_type worker, time_point now) noexcept {
  workers_[worker].heard = now;
  workers_[worker].stuck = false;
  if (!looks_.contains(worker)) looks_.set(worker, later(now, settings_.patience));
}

void scheduler::impl::find_stuck(time_point now) noexcept {
  for (index_type late = looks_.due(now); late != no_index; late = looks_.due(now)) {
    worker_record& worker = workers_[late];
    const time_point due = later(worker.heard, settings_.patience);
    if (due > now && !worker.tasks.empty()) {
      looks_.set(late, due);
      continue;
    }
    looks_.clear(late);  // until the worker is heard of
    if (worker.tasks.empty()) continue;
    worker.stuck = true;
    stuck_.insert(late);
  }
}

void scheduler::impl::recall_stranded(time_point now) noexcept {
  for (index_type index = stuck_.next(0); index != no_index; index = stuck_.next(index + 1)) {
    const worker_record& worker = workers_[index];
    const bool strands = worker.stuck && worker.working() && worker.tasks.size() > 1;
    if (strands && !worker.usable()) continue;  // one that has had all its tasks may get one more
    // If no other worker has room, the tasks are as well off here; an event follows when one has.
    if (strands && !has_room_elsewhere(now)) return;
    stuck_.erase(index);
    if (strands) recall_waiting(index);
  }
}

bool scheduler::impl::has_room_elsewhere(time_point now) noexcept {
  if (least_busy() != no_index) return true;
  return may_widen() && (workers_.idle_count() != 0 || may_start(now));
}

void scheduler::impl::recall_waiting(index_type worker) noexcept {
  const index_type first = workers_[worker].tasks.front();
  index_type last = no_index;
  for (index_type task = workers_[worker].tasks.back(); task != first;) {
    const index_type ahead = tasks_[task].previous;
    if (!take_back(task)) return;  // the worker runs them in order, so those ahead have been started too
    detach(task);
    enqueue(task, last);
    if (!tasks_[task].aside) last = task;
    task = ahead;
  }
}

void scheduler::impl::rebalance(time_point now) {
  while (workers_.idle_count() != 0 && sharers_.size() != 0 && may_widen()) {
    const index_type idle = workers_.most_recently_idle();
    if (workers_[idle].state != worker_state::ready) return;
    const index_type from = fullest();
    if (from == no_index) return;
    // `from` may have started all its tasks, with replies under way; then another worker's tasks will do.
    if (!move_half(from, idle, now)) sharers_.clear(from);
  }
}

index_type scheduler::impl::fullest() noexcept {
  for (index_type first = sharers_.first(); first != no_index; first = sharers_.first()) {
    const worker_record& worker = workers_[first];
    const sharing now_waiting(worker);
    if (worker.waiting() == 0 || !worker.usable()) sharers_.clear(first);  // note_waiting() lets it in again
    else if (sharers_.first_key() < now_waiting) sharers_.raise_first(now_waiting);
    else return first;
  }
  return no_index;
}

bool scheduler::impl::move_half(index_type from, index_type to, time_point now) {
  const std::size_t share = std::min<std::size_t>((workers_[from].waiting() + 1) / 2, workers_[to].tasks_left);
  const index_type running = workers_[from].state == worker_state::ready ? workers_[from].tasks.front() : no_index;
  scratch_.clear();
  for (index_type task = workers_[from].tasks.back(); task != running && scratch_.size() < share;) {
    const index_type ahead = tasks_[task].previous;
    if (!take_back(task)) break;  // the worker runs them in order, so those ahead have been started too
    detach(task);
    scratch_.push_back(task);
    task = ahead;
  }
  // Taken from the end, handed over from the front.
  for (auto task = scratch_.rbegin(); task != scratch_.rend(); ++task) assign(*task, to, now);
  return !scratch_.empty();
}

bool scheduler::impl::crowded() noexcept {
  const index_type most = fullest();
  return most != no_index && workers_[most].tasks.size() > 1;
}

void scheduler::impl::assign(index_type task, index_type worker, time_point now) {
  task_record& record = tasks_[task];
  worker_record& target = workers_[worker];
  workers_.set_busy(worker);
  learn_cost(record);
  record.state = task_state::assigned;
  record.aside = false;
  record.worker = worker;
  record.sent = false;
  const bool was_free = target.tasks.empty();
  if (was_free) {
    ++busy_;
    hear(worker, now);
  }
  target.tasks.push_back(tasks_, task);
  note_waiting(worker);
  workers_.count_task(worker, true);
  if (is_long(record)) {
    ++target.long_tasks;
  } else {
    target.short_work += record.cost;
  }
  if (was_free) note_load(worker);
  ++assigned_;
  if (record.timeout != duration::zero()) deadlines_.set(task, std::min(record.deadline, later(now, record.timeout)));
  else await_deadline(task);
  emit(action::kind::assign, worker, task);
}

void scheduler::impl::detach(index_type task) noexcept {
  task_record& record = tasks_[task];
  worker_record& holder = workers_[record.worker];
  holder.tasks.remove(tasks_, task);
  if (holder.tasks.empty()) --busy_;
  if (is_long(record)) {
    --holder.long_tasks;
  } else {
    holder.short_work -= record.cost;
  }
  // The end of a doomed task, or a task taken back from a worker that had had all of its own, makes it usable again.
  const bool was_barred = record.doom != failure::none || holder.tasks_left == 1;
  if (record.doom != failure::none) --holder.doomed;
  if (was_barred) note_waiting(record.worker);
  note_load(record.worker);
  SHMPOOL_ASSERT(assigned_ != 0);
  --assigned_;
  deadlines_.clear(task);
  if (holder.tasks.empty() && holder.usable()) workers_.set_idle(record.worker);
  record.worker = no_index;
}

void scheduler::impl::note_load(index_type index) noexcept {
  constexpr load least{};
  const load* const known = open_.key(index);
  if ((!known || least < *known) && is_open(workers_[index])) open_.set(index, least);
}

void scheduler::impl::enqueue(index_type task, index_type near) noexcept {
  task_record& record = tasks_[task];
  record.state = task_state::queued;
  record.aside = kinds_.risky(record.kind);
  if (record.aside) aside_.insert_by_order(tasks_, task);
  else queue_.insert_by_order(tasks_, task, near);
  await_deadline(task);
}

}  // namespace shmpool::sched
