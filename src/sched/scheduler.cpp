// The scheduler's events and queries.
#include "sched/scheduler.hpp"

#include "sched/scheduler_impl.hpp"

#include <algorithm>

namespace shmpool::sched {

scheduler::scheduler(const options& settings, claims& slots) : impl_(std::make_unique<impl>(settings, slots)) {
}
scheduler::~scheduler() = default;

task_id scheduler::submit(const task_spec& task, time_point now) {
  impl& self = *impl_;
  if (!self.has_room() || !self.lets_in(now)) return 0;
  const bool stalled = self.is_stalled(now) && self.staff() != 0;  // without any, accept() ends a pause
  self.prepare();
  self.kinds_.know(task.kind);
  const index_type index = self.tasks_.acquire();
  self.accept(index, task, now);
  const task_id id = self.tasks_.id(index);
  // A task at the end of a line that does not move changes nothing for those before it.
  if (stalled && self.queue_.back() == index) self.stalled_ = self.only_queued_ = true;
  else self.settle(now);
  return id;
}

task_id scheduler::hold(task_handle handle, time_point deadline, time_point now) {
  impl& self = *impl_;
  if (!self.lets_in(now)) return 0;
  self.prepare();
  const index_type index = self.tasks_.acquire();
  self.tasks_[index].handle = handle;
  self.tasks_[index].order = ++self.submits_;
  self.tasks_[index].state = task_state::held;
  self.tasks_[index].deadline = deadline;
  self.held_.push_back(self.tasks_, index);
  self.await_deadline(index);
  const task_id id = self.tasks_.id(index);
  self.settle(now);
  return id;
}

void scheduler::submit(task_id admitted, const task_spec& task, time_point now) {
  impl& self = *impl_;
  const index_type index = self.tasks_.find(admitted);
  if (index == no_index || self.tasks_[index].state != task_state::admitted) return;
  self.prepare();
  self.kinds_.know(task.kind);
  --self.admitted_;
  if (self.tasks_[index].doom != failure::none) {
    self.tasks_[index].handle = task.handle;
    self.complete(index, self.tasks_[index].doom);
  } else {
    if (task.deadline > now) (void)self.lets_in(now);  // if not, it is turned away with all waiting tasks
    self.accept(index, task, now);
  }
  self.settle(now);
}

void scheduler::withdraw(task_id admitted, time_point now) {
  impl& self = *impl_;
  const index_type index = self.tasks_.find(admitted);
  if (index == no_index || self.tasks_[index].state != task_state::admitted) return;
  self.prepare();
  --self.admitted_;
  self.forget(index);
  self.settle(now);
}

bool scheduler::awaits_submit(task_id task) const noexcept {
  const index_type index = impl_->tasks_.find(task);
  return index != no_index && impl_->tasks_[index].state == task_state::admitted;
}

void scheduler::worker_started(worker_id worker, time_point now) {
  impl& self = *impl_;
  const index_type index = self.workers_.find(worker);
  if (index == no_index) return;
  self.prepare();
  self.crashes_.forget_failed_starts();
  // A worker that was told to leave before it had started keeps its state; its exit follows.
  if (self.workers_[index].state == worker_state::starting) {
    self.workers_.set_state(index, worker_state::ready);
    self.hear(index, now);
    self.note_load(index);
  }
  self.settle(now);
}

void scheduler::worker_ready(worker_id worker, time_point now) {
  impl& self = *impl_;
  const index_type index = self.workers_.find(worker);
  if (index == no_index || !self.workers_[index].working() || self.workers_[index].up) return;
  self.prepare();
  self.workers_[index].up = true;
  self.workers_[index].up_since = now;
  self.crashes_.came_up(worker);
  self.settle(now);
}

void scheduler::worker_unfit(worker_id worker, time_point now) {
  impl& self = *impl_;
  const index_type index = self.workers_.find(worker);
  if (index == no_index || !self.workers_[index].working()) return;
  self.prepare();
  self.retire_itself(index, now);
  self.lose(index, true, now);
  self.settle(now);
}

void scheduler::worker_start_failed(worker_id worker, time_point now) {
  impl& self = *impl_;
  const index_type index = self.workers_.find(worker);
  if (index == no_index) return;
  self.prepare();
  const bool was_wanted = self.workers_[index].working();
  self.bury(index, {}, now);
  if (was_wanted) {
    bool others = false;
    for (index_type other = 0; other < self.workers_.slots(); ++other) {
      others = others || self.workers_[other].working();
    }
    self.crashes_.start_failed(now);
    if (!others) {
      self.end_queued(failure::worker_start_failed);
      self.crashes_.cancel_probe();
    }
  }
  self.settle(now);
}

bool scheduler::replied(worker_id worker, task_id task, duration run, time_point now) {
  impl& self = *impl_;
  const index_type index = self.find_sent(worker, task);
  if (index == no_index) return false;
  self.prepare();
  self.hear(self.tasks_[index].worker, now);
  const std::uint32_t kind = self.tasks_[index].kind;
  if (self.kinds_.ended(kind, run)) self.change_lines(self.aside_, self.queue_, kind);
  worker_record& from = self.workers_[self.tasks_[index].worker];
  from.up = from.begun = true;
  self.crashes_.served(worker);
  self.detach(index);
  self.forget(index);
  self.unsettled_ = now;
  return true;
}

bool scheduler::not_sent(worker_id worker, task_id task, time_point now) {
  impl& self = *impl_;
  const index_type index = self.find_sent(worker, task);
  if (index == no_index) return false;
  self.prepare();
  self.workers_.count_task(self.tasks_[index].worker, false);
  self.detach(index);
  self.forget(index);
  self.settle(now);
  return true;
}

void scheduler::worker_exited(worker_id worker, std::span<const task_id> started, time_point now, bool by_pool) {
  impl& self = *impl_;
  const index_type index = self.workers_.find(worker);
  if (index == no_index) return;
  self.prepare();
  const worker_state state = self.workers_[index].state;
  const bool asked = state == worker_state::retiring || state == worker_state::killed;
  const std::uint32_t quarantined = asked ? 0 : self.blame(index, started, by_pool, now);
  self.bury(index, started, now);
  if (quarantined != 0) self.turn_away(quarantined);
  self.settle(now);
}

void scheduler::recycle(worker_id worker, time_point now) {
  impl& self = *impl_;
  const index_type index = self.workers_.find(worker);
  if (index == no_index || !self.workers_[index].working()) return;
  self.prepare();
  self.workers_.set_outgrown(index);
  self.recall(index);
  self.settle(now);
}

void scheduler::worker_leaves(worker_id worker, time_point now) {
  impl& self = *impl_;
  const index_type index = self.workers_.find(worker);
  if (index == no_index || !self.workers_[index].working()) return;
  self.prepare();
  self.retire_itself(index, now);
  self.settle(now);
}

void scheduler::cancel(task_id task, cancel_kind kind, time_point now) {
  impl& self = *impl_;
  const index_type index = self.tasks_.find(task);
  if (index == no_index) return;
  self.prepare();
  task_record& record = self.tasks_[index];
  // A task that was told to stop is one that could not be taken back: asking again would get the same answer.
  if (record.state != task_state::assigned || (!record.stop_requested && self.take_back(index))) {
    self.finish(index, failure::cancelled);
  } else if (kind == cancel_kind::partial) {
    self.request_stop(index);
  } else if (kind == cancel_kind::terminal) {
    self.doom(index, failure::cancelled, now);
  }
  self.settle(now);
}

void scheduler::tick(time_point now) {
  impl& self = *impl_;
  self.prepare();
  for (index_type task = self.deadlines_.due(now); task != no_index; task = self.deadlines_.due(now)) {
    self.expire(task, now);
  }
  self.kill_stragglers(now);
  self.settle(now);
}

void scheduler::shutdown(time_point now) {
  impl_->prepare();
  impl_->closing_ = true;
  impl_->settle(now);
}

void scheduler::stop(time_point now) {
  impl& self = *impl_;
  self.prepare();
  self.closing_ = true;
  self.finish_all(failure::pool_stopped);
  self.kill_all();
  self.settle(now);
}

void scheduler::break_pool(time_point now) {
  impl_->prepare();
  impl_->break_pool();
  impl_->settle(now);
}

bool scheduler::next_action(action& out) {
  impl& self = *impl_;
  if (self.unsettled_) self.settle(*self.unsettled_);
  while (self.next_action_ != self.actions_.size()) {
    out = self.actions_[self.next_action_++];
    if (self.still_meant(out)) return true;
  }
  self.actions_.clear();
  self.next_action_ = 0;
  return false;
}

bool scheduler::only_queued() const noexcept {
  return impl_->only_queued_;
}

std::optional<time_point> scheduler::next_deadline() const {
  std::optional<time_point> next = impl_->deadlines_.earliest();
  for (const auto& other : {impl_->start_wanted_at_, impl_->next_straggler()}) {
    if (other) next = std::min(next.value_or(*other), *other);
  }
  return next;
}

bool scheduler::broken() const noexcept {
  return impl_->broken_;
}

bool scheduler::refuses(time_point now) const noexcept {
  return impl_->broken_ || (impl_->crashes_.refuses() && !impl_->crashes_.probe_due(now));
}

bool scheduler::admits(std::uint32_t kind, time_point now) const noexcept {
  return impl_->kinds_.admits(kind, now);
}

time_point scheduler::admits_at(std::uint32_t kind) const noexcept {
  return impl_->kinds_.admits_at(kind);
}

counts scheduler::count() const noexcept {
  counts out;
  out.held = impl_->held_.size();
  out.queued = impl_->queue_.size() + impl_->aside_.size() + impl_->admitted_;
  out.assigned = impl_->assigned_;
  out.bytes = impl_->bytes_;
  out.workers = static_cast<unsigned>(impl_->workers_.size());
  out.starting_workers = static_cast<unsigned>(impl_->workers_.starting());
  out.idle_workers = static_cast<unsigned>(impl_->workers_.idle_count());
  out.leaving_workers = static_cast<unsigned>(impl_->workers_.leaving());
  out.deaths = impl_->deaths_;
  out.quarantined_kinds = impl_->kinds_.quarantined();
  out.health = impl_->broken_ ? pool_health::lost : impl_->crashes_.health();
  if (out.health == pool_health::failing || out.health == pool_health::broken)
    out.next_start = impl_->crashes_.resume_at();
  return out;
}

std::size_t scheduler::task_count() const noexcept {
  return impl_->held_.size() + impl_->queue_.size() + impl_->aside_.size() + impl_->admitted_ + impl_->assigned_;
}

std::size_t scheduler::assigned_count() const noexcept {
  return impl_->assigned_;
}

unsigned scheduler::busy_workers() const noexcept {
  const worker_table& all = impl_->workers_;
  return static_cast<unsigned>(all.size() - all.idle_count() - all.leaving());
}

task_handle scheduler::assigned_handle(worker_id worker, task_id task) const noexcept {
  const index_type index = impl_->find_sent(worker, task);
  return index == no_index ? no_task : impl_->tasks_[index].handle;
}

void scheduler::impl::make_room(std::size_t tasks, std::size_t workers) {
  if (tasks > room_for_tasks_ || workers > room_for_workers_) {
    const std::size_t more_tasks = 2 * tasks, more_workers = 2 * workers;
    scratch_.reserve(more_tasks);
    deadlines_.reserve(more_tasks);
    workers_.reserve(more_workers);
    looks_.reserve(more_workers);
    open_.reserve(more_workers);
    stuck_.reserve(more_workers);
    sharers_.reserve(more_workers);
    actions_.reserve(actions_.size() + 2 * more_tasks + 3 * more_workers + 16);
    room_for_tasks_ = more_tasks;
    room_for_workers_ = more_workers;
  }
  // An event hands a task out twice at most (and shares it out again), and has three things to say to a worker.
  const std::size_t most = actions_.size() + 2 * (tasks_.size() + 1) + 3 * workers + 16;
  if (actions_.capacity() < most) actions_.reserve(2 * most);
}

void scheduler::impl::settle(time_point now) {
  unsettled_.reset();
  start_wanted_at_.reset();
  if (crashes_.refuses()) turn_away();
  if (!held_.empty()) admit_held();
  dispatch(now);
  if (workers_.spent() != 0) replace_spent(now);
  if (settings_.min_workers != 0) keep_minimum(now);
  if (closing_) wind_down(now);
}

/// Several events may go in before their actions are fetched, and a later one may overtake an earlier one's action. An
/// assignment that has not been fetched yet was withdrawn without asking the worker, who cannot know of it.
bool scheduler::impl::still_meant(const action& what) noexcept {
  switch (what.what) {
    case action::kind::assign: {
      const index_type task = tasks_.find(what.task);
      if (task == no_index || tasks_[task].state != task_state::assigned || tasks_[task].sent) return false;
      if (workers_[tasks_[task].worker].id != what.worker) return false;
      tasks_[task].sent = true;
      return true;
    }
    case action::kind::request_stop: return find_sent(what.worker, what.task) != no_index;
    case action::kind::start_worker:
    case action::kind::retire_worker:
    case action::kind::kill_worker: return workers_.find(what.worker) != no_index;
    case action::kind::admit:
    case action::kind::complete:
    case action::kind::drained: return true;
  }
  return true;
}

}  // namespace shmpool::sched
