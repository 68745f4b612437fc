#include "pool/task_ledger.hpp"

#include <shmpool/error.hpp>

#include <string>
#include <system_error>
#include <utility>

namespace shmpool::pool {

std::exception_ptr task_ledger::make_no_memory() {
  return std::make_exception_ptr(std::system_error(
      errc::shm_exhausted, std::string(no_memory_text) + ", to hand the task over or to take its result in"));
}

task_entry& task_ledger::open(detail::operation& op) {
  if (op.cancel_key != 0) keys_.emplace(op.cancel_key, 0);
  task_entry* task = nullptr;
  if (!spare_.empty()) {
    task = spare_.back();
    spare_.pop_back();
  } else {
    try {
      // So that close() never needs memory.
      if (spare_.capacity() <= records_.size()) spare_.reserve(2 * records_.size() + 16);
      task = records_.emplace_back(std::make_unique<task_entry>()).get();
      task->handle = sched::task_handle(records_.size() - 1);
    } catch (...) {
      keys_.erase(op.cancel_key);
      throw;
    }
  }
  SHMPOOL_ASSERT(!task->open && !task->on && task->leases.empty() && task->arrays.empty());
  task->open = true;
  task->op = &op;
  return *task;
}

void task_ledger::known_as(task_entry& task, sched::task_id id) noexcept {
  task.id = id;
  if (task.op->cancel_key == 0) return;
  if (const auto found = keys_.find(task.op->cancel_key); found != keys_.end()) found->second = id;
}

void task_ledger::close(task_entry& task) noexcept {
  SHMPOOL_ASSERT(task.open && spare_.size() < records_.size());
  task.open = false;
  task.unassign();
  task.arrays.clear();
  std::vector<std::byte>().swap(task.arguments);
  if (task.op && task.op->cancel_key != 0) keys_.erase(task.op->cancel_key);
  task.op = nullptr;
  task.id = 0;
  spare_.push_back(&task);
}

detail::operation& task_ledger::close_held(task_entry& task) noexcept {
  detail::operation& op = *std::exchange(task.op, nullptr);
  close(task);
  return op;
}

void task_ledger::forget_all() noexcept {
  for (const auto& each : records_) each->arrays.forget();
}

std::optional<sched::task_id> task_ledger::find_key(std::uint64_t key) const noexcept {
  const auto found = keys_.find(key);
  if (found == keys_.end()) return std::nullopt;
  return found->second;
}

void task_ledger::complete(task_entry& task) noexcept {
  detail::operation& op = *task.op;
  close(task);
  completed_.push(op);
}

void task_ledger::count(pool_stats& stats) const noexcept {
  stats.submitted = submitted_;
  stats.completed = succeeded_;
  stats.failures = failures_;
  stats.failed = failures_.threw + failures_.aborted + failures_.deadline_exceeded + failures_.worker_lost +
                 failures_.shm_exhausted + failures_.protocol_violation + failures_.worker_start_failed +
                 failures_.pool_broken + failures_.quarantined;
}

}  // namespace shmpool::pool
