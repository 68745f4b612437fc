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

/// True in a worker process, while a task or the initializer runs.
bool in_worker() noexcept;

}  // namespace shmpool::this_task
