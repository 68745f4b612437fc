#include "pool/slot_claims.hpp"

#include "pool/task_entry.hpp"
#include "pool/task_ledger.hpp"
#include "pool/worker_channel.hpp"
#include "wire/control_page.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>

namespace shmpool::pool {

task_entry* slot_claims::assigned(sched::worker_id worker, sched::task_id id) const noexcept {
  task_entry* const task = ledger_.find(scheduler_->assigned_handle(worker, id));
  return task && task->on ? task : nullptr;
}

bool slot_claims::take_back(sched::worker_id worker, sched::task_id id) noexcept {
  task_entry* const task = assigned(worker, id);
  if (!task) return false;
  if (!wire::take_back(task->on->slot(task->slot), task->on->handover_in(task->slot))) return false;
  task->unassign();
  return true;
}

std::optional<sched::time_point> slot_claims::start_time(sched::worker_id worker, sched::task_id id,
                                                         sched::time_point now) noexcept {
  task_entry* const task = assigned(worker, id);
  if (!task) return std::nullopt;
  const wire::slot& slot = task->on->slot(task->slot);
  const auto begun = wire::slot_word(task->on->handover_in(task->slot), wire::slot_state::started);
  if (slot.word.load(std::memory_order_acquire) != begun) return std::nullopt;
  // All processes should have the same clock. Clamp the worker's time: it cannot have started the task before the
  // handover, nor after the parent first saw it started; a lie of "now" each time would put a timeout off for ever.
  task->seen_started = std::min(task->seen_started, now);
  const sched::time_point told{std::chrono::nanoseconds(slot.started_ns.load(std::memory_order_relaxed))};
  return std::clamp(told, task->assigned, std::max(task->assigned, task->seen_started));
}

}  // namespace shmpool::pool
