// Questions that a running task may ask about itself. In a process that is not a worker, each function returns false or
// 0 or does nothing, so that task functions can also be called directly.
//
// Thread safety: any thread of the worker may call these.
#pragma once

#include <cstdint>

namespace shmpool::this_task {

/// True once the task was cancelled (partial or terminal) or has exceeded its timeout or deadline: a long task that
/// asks now and then can leave early, by returning or throwing. A task that goes on is killed after its cancel_grace,
/// unless the cancellation was partial. Costs one load from memory. False outside a worker.
bool stop_requested() noexcept;

/// Tells the parent how far the task has come, from 0 to 1; the number arrives at task_options::on_progress. Reports
/// that follow each other within ten milliseconds are dropped, so that a loop may report freely. Does nothing outside a
/// worker.
void report_progress(double fraction) noexcept;

/// True in a worker process, while a task, the initializer or the finalizer runs.
bool in_worker() noexcept;

/// The number of this worker in its pool: the lowest from 0 that no other worker has, so below pool_options::workers
/// except while a replacement exists beside the worker that it replaces. A dead worker's number is given again. 0
/// outside a worker. For resources of which each worker has one: a GPU, a port, a directory.
unsigned worker_index() noexcept;

/// A random number that no other worker has, the same for as long as this worker lives. Generators of the program that
/// were seeded before the worker was forked (std::mt19937 in a static object, say) give the same numbers in every
/// worker until the program seeds them from this number; those of the C library (rand, random, drand48) are seeded
/// already. 0 outside a worker.
std::uint64_t worker_seed() noexcept;

}  // namespace shmpool::this_task
