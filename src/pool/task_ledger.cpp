#include "pool/task_ledger.hpp"

#include "process/assert.hpp"

#include <shmpool/error.hpp>

#include <string>
#include <system_error>
#include <utility>

namespace shmpool::pool {

std::exception_ptr task_ledger::make_no_memory() {
  return std::make_exception_ptr(std::system_error(
      errc::shm_exhausted, std::string(no_memory_text) + ", to hand the task over or to take its result in"));
}

task& task_ledger::open(detail::operation& op) {
  if (op.cancel_key != 0) keys_.emplace(op.cancel_key, 0);
  task* made = nullptr;
  if (!spare_.empty()) {
    made = spare_.back();
    spare_.pop_back();
  } else {
    try {
      // So that close() never needs memory.
      if (spare_.capacity() <= records_.size()) spare_.reserve(2 * records_.size() + 16);
      made = records_.emplace_back(std::make_unique<task>()).get();
    } catch (...) {
      keys_.erase(op.cancel_key);
      throw;
    }
  }
  SHMPOOL_ASSERT(!made->open && !made->on && made->leases.empty() && made->arrays.empty());
  made->open = true;
  made->op = &op;
  return *made;
}

void task_ledger::known_as(task& which, sched::task_id id) noexcept {
  which.id = id;
  if (which.op->cancel_key == 0) return;
  if (const auto found = keys_.find(which.op->cancel_key); found != keys_.end()) found->second = id;
}

void task_ledger::close(task& which) noexcept {
  SHMPOOL_ASSERT(which.open && spare_.size() < records_.size());
  which.open = false;
  which.unassign();
  which.arrays.clear();
  std::vector<std::byte>().swap(which.arguments);
  if (which.op && which.op->cancel_key != 0) keys_.erase(which.op->cancel_key);
  which.op = nullptr;
  which.id = 0;
  spare_.push_back(&which);
}

detail::operation& task_ledger::close_held(task& which) noexcept {
  detail::operation& op = *std::exchange(which.op, nullptr);
  close(which);
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

void task_ledger::complete(task& which) noexcept {
  detail::operation& op = *which.op;
  close(which);
  completed_.push(op);
}

void task_ledger::complete(task& which, detail::outcome&& result) noexcept {
  if (!result.threw && !result.error) ++succeeded_;
  which.op->result = std::move(result);
  complete(which);
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
