// One submitted task as the application knows it, from submit() until it has ended.
//
// Thread safety: none; the engine's lock guards it.
#pragma once

#include "pool/lent_arrays.hpp"
#include "process/assert.hpp"
#include "process/clock.hpp"
#include "sched/scheduler.hpp"

#include <shmpool/detail/engine.hpp>
#include <shmpool/shm_handle.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace shmpool::pool {

class worker_channel;

struct task_entry {
  bool open = false;  // between task_ledger::open() and close()
  detail::operation* op = nullptr;
  sched::task_handle handle = sched::no_task;  // its place in the ledger
  sched::task_id id = 0;
  std::uint32_t function = 0;
  std::vector<std::byte> arguments;
  lent_arrays arrays;              // held and registered until it ends
  std::vector<shm_handle> leases;  // for its results, while a worker has the task
  worker_channel* on = nullptr;    // the worker that has the task
  std::uint16_t slot = 0;
  monotonic_clock::time_point assigned;
  monotonic_clock::time_point seen_started =
      monotonic_clock::time_point::max();  // when the parent first saw that it had begun

  /// Makes this_task::stop_requested() true in the task's worker.
  void request_stop() const noexcept;
  /// Takes the task from its worker.
  void unassign() noexcept;
  /// To be called before a task ends although its worker may still run it: the task's segments stay in use until the
  /// worker is dead.
  void abandon() noexcept;
};

}  // namespace shmpool::pool
