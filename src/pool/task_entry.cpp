#include "pool/task_entry.hpp"

#include "pool/worker_channel.hpp"

#include <atomic>
#include <new>

namespace shmpool::pool {

void task_entry::request_stop() const noexcept {
  if (on) on->slot(slot).stop.store(on->handover_in(slot), std::memory_order_release);
}

void task_entry::abandon() noexcept {
  if (!on || on->life.is_ended()) return;
  auto& kept = on->abandoned;
  try {
    kept.reserve(kept.size() + leases.size() + arrays.all().size());
    for (const shm_handle& each : leases) kept.push_back(each);
    for (const detail::attachment& each : arrays.all()) kept.push_back(each.handle);
  } catch (const std::bad_alloc&) {
    // The worker may still write to the segments, and there is no memory to record that: never use them again.
    for (const shm_handle& each : leases) each.get()->retain();
    for (const detail::attachment& each : arrays.all()) each.handle.get()->retain();
  }
}

void task_entry::unassign() noexcept {
  if (on) on->free_slot(slot);
  on = nullptr;
  leases.clear();
}

}  // namespace shmpool::pool
