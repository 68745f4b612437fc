// What a running task may ask about itself. In a process that is not a worker, every answer is the quiet one, so that task
// functions can also be called directly.
//
// Thread safety: any thread of the worker may call these.
#pragma once

namespace shmpool::this_task {

/// True once the task was cancelled (partial or terminal) or its deadline has passed: a long task that asks now and then
/// can leave early, by returning or throwing. A task that goes on is killed after pool_options::cancel_grace if the
/// cancellation was terminal. Costs one load from memory. False outside a worker.
bool stop_requested() noexcept;

/// Tells the parent how far the task has come, from 0 to 1; it arrives at task_options::on_progress. Reports that follow each
/// other within ten milliseconds are dropped, so that a loop may report freely. Does nothing outside a worker.
void report_progress(double fraction) noexcept;

/// True in a worker process, while a task or the initializer runs.
bool in_worker() noexcept;

}  // namespace shmpool::this_task
