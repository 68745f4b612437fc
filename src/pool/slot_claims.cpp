#include "pool/slot_claims.hpp"

#include "pool/task.hpp"
#include "pool/worker_channel.hpp"
#include "process/clock.hpp"
#include "wire/control_page.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>

namespace shmpool::pool {

task* slot_claims::assigned(sched::worker_id worker, sched::task_id id) const noexcept {
  auto* const found = static_cast<task*>(scheduler_->assigned_context(worker, id));
  return found && found->on ? found : nullptr;
}

bool slot_claims::take_back(sched::worker_id worker, sched::task_id id) noexcept {
  task* const which = assigned(worker, id);
  if (!which) return false;
  if (!wire::take_back(which->on->slot(which->slot), which->on->handover_in(which->slot))) return false;
  which->unassign();
  return true;
}

std::optional<sched::time_point> slot_claims::started(sched::worker_id worker, sched::task_id id) noexcept {
  task* const which = assigned(worker, id);
  if (!which) return std::nullopt;
  const wire::slot& slot = which->on->slot(which->slot);
  const auto begun = wire::slot_word(which->on->handover_in(which->slot), wire::slot_state::started);
  if (slot.word.load(std::memory_order_acquire) != begun) return std::nullopt;
  // All processes should have the same clock. Clamp the worker's time: it cannot have started the task before the
  // handover, nor after the parent first saw it started; a lie of "now" each time would put a timeout off for ever.
  which->seen_started = std::min(which->seen_started, monotonic_clock::now());
  const sched::time_point told{std::chrono::nanoseconds(slot.started_ns.load(std::memory_order_relaxed))};
  return std::clamp(told, which->assigned, std::max(which->assigned, which->seen_started));
}

}  // namespace shmpool::pool
