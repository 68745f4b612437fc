// When workers are started, replaced and sent away.
#include "sched/scheduler_impl.hpp"

#include <algorithm>

namespace shmpool::sched {

bool scheduler::impl::may_start(time_point now) noexcept {
  if (crashes_.refuses()) return false;
  // Leaving workers are not counted, so that their replacements can be there before they are gone; but their number is
  // bounded, too, or a pool whose workers leave slowly would grow.
  if (staff() >= settings_.max_workers || workers_.size() >= std::size_t{2} * settings_.max_workers) return false;
  if (crashes_.on_probation() && awaits_proof()) return false;
  if (now >= crashes_.resume_at()) return true;
  start_wanted_at_ = crashes_.resume_at();
  return false;
}

index_type scheduler::impl::start_worker() {
  const bool lasting = staff() < settings_.min_workers;
  const unsigned limit = settings_.max_tasks_per_worker;
  const index_type worker = workers_.acquire(limit != 0 ? limit : worker_record::no_limit);
  emit(action::kind::start_worker, worker).lasting = lasting;
  return worker;
}

void scheduler::impl::keep_minimum(time_point now) {
  if (closing_ || broken_ || crashes_.broken()) return;
  while (staff() < settings_.min_workers && may_start(now)) workers_.set_idle(start_worker());
}

void scheduler::impl::replace_spent(time_point now) {
  for (index_type worker = 0; worker < workers_.slots() && workers_.spent() != 0; ++worker) {
    if (!workers_[worker].spent()) continue;
    if (!workers_[worker].replaced && !closing_ && workers_.idle_count() == 0 && may_start(now)) {
      workers_.set_idle(start_worker());
      workers_[worker].replaced = true;
    }
    if (workers_[worker].tasks.empty()) retire(worker, now);
  }
}

void scheduler::impl::retire(index_type worker, time_point now) {
  workers_.set_state(worker, worker_state::retiring);
  workers_[worker].leave_by = later(now, settings_.leave_grace);
  emit(action::kind::retire_worker, worker);
}

void scheduler::impl::retire_itself(index_type worker, time_point now) {
  workers_.set_state(worker, worker_state::retiring);
  workers_[worker].leave_by = later(now, settings_.leave_grace);
  recall(worker);
}

void scheduler::impl::kill_stragglers(time_point now) {
  if (workers_.leaving() == 0) return;
  for (index_type worker = 0; worker < workers_.slots(); ++worker) {
    if (workers_[worker].state == worker_state::retiring && workers_[worker].leave_by <= now) kill(worker);
  }
}

std::optional<time_point> scheduler::impl::next_straggler() const noexcept {
  std::optional<time_point> next;
  if (workers_.leaving() == 0) return next;
  for (index_type worker = 0; worker < workers_.slots(); ++worker) {
    if (workers_[worker].state != worker_state::retiring) continue;
    next = std::min(next.value_or(time_point::max()), workers_[worker].leave_by);
  }
  return next;
}

}  // namespace shmpool::sched
