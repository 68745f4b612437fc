// The tasks of a pool from submit() until they have ended, and the news for the user: completed operations, in order,
// and notices. All user objects leave by take_completed(), so that no user code runs under the engine's lock, no
// destructor either.
//
// Thread safety: none; the engine's lock guards it.
#pragma once

#include "pool/task_entry.hpp"
#include "process/assert.hpp"
#include "sched/scheduler.hpp"

#include <shmpool/detail/engine.hpp>
#include <shmpool/options.hpp>
#include <shmpool/stats.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

namespace shmpool::pool {

class task_ledger {
 public:
  /// A new record; `op` can be cancelled by its key from now on. Throws std::bad_alloc.
  task_entry& open(detail::operation& op);
  /// From now on cancellations reach the scheduler by this number.
  void known_as(task_entry& task, sched::task_id id) noexcept;
  /// The task is over: gives its record and its claims on memory back. Does not touch its operation.
  void close(task_entry& task) noexcept;
  /// The same for a held task; its key stays, for the task that will be submitted. Returns its operation.
  detail::operation& close_held(task_entry& task) noexcept;

  /// The record that open() gave this handle; null for no_task.
  task_entry* find(sched::task_handle handle) const noexcept {
    if (handle == sched::no_task) return nullptr;
    SHMPOOL_ASSERT(static_cast<std::uint32_t>(handle) < records_.size());
    return records_[static_cast<std::uint32_t>(handle)].get();
  }

  /// For a forked copy, before its destruction: the tasks belong to the original process.
  void forget_all() noexcept;

  /// The task under this key; nothing if there is none, 0 if the scheduler does not know it yet.
  std::optional<sched::task_id> find_key(std::uint64_t key) const noexcept;
  void forget_key(std::uint64_t key) noexcept { keys_.erase(key); }

  /// The task is over, and its operation completes with its present result.
  void complete(task_entry& task) noexcept;
  /// Completes an operation that belongs to no task.
  void push(detail::operation& op) noexcept { completed_.push(op); }
  /// Adds a notice, or drops it if memory has run out.
  template <class Callback, class What>
  void notify(const Callback& call, const What& what) noexcept {
    try {
      notices_.emplace_back(call, what);
    } catch (const std::bad_alloc&) {
    }
  }
  detail::completion_list take_completed(std::vector<detail::notice>& notices) noexcept {
    notices.swap(notices_);
    return std::move(completed_);
  }
  bool any_completed() const noexcept { return !completed_.empty(); }
  /// Whether there is anything for take_completed().
  bool has_news() const noexcept { return any_completed() || !notices_.empty(); }
  bool several_completed() const noexcept { return completed_.has_several(); }

  /// An out-of-memory error that needs no memory itself.
  const std::exception_ptr& no_memory() const noexcept { return no_memory_; }
  static constexpr const char* no_memory_text = "the application had no memory left (new threw std::bad_alloc)";

  void count_submit() noexcept { ++submitted_; }
  void count_success() noexcept { ++succeeded_; }
  failure_counts& failures() noexcept { return failures_; }
  /// Fills in submitted, completed, failed and failures.
  void count(pool_stats& stats) const noexcept;

 private:
  std::vector<std::unique_ptr<task_entry>> records_;
  std::vector<task_entry*> spare_;
  std::unordered_map<std::uint64_t, sched::task_id> keys_;
  detail::completion_list completed_;
  std::vector<detail::notice> notices_;
  const std::exception_ptr no_memory_ = make_no_memory();
  std::uint64_t submitted_ = 0, succeeded_ = 0;
  failure_counts failures_;

  static std::exception_ptr make_no_memory();
};

}  // namespace shmpool::pool
