// What a running task may ask about itself. In a process that is not a worker, every answer is the quiet one, so that
// task functions can also be called directly.
//
// Thread safety: any thread of the worker may call these.
#pragma once

#include <cstdint>

namespace shmpool::this_task {

/// True once the task was cancelled (partial or terminal) or its deadline has passed: a long task that asks now and
/// then can leave early, by returning or throwing. A task that goes on is killed after pool_options::cancel_grace if
/// the cancellation was terminal. Costs one load from memory. False outside a worker.
bool stop_requested() noexcept;

/// Tells the parent how far the task has come, from 0 to 1; it arrives at task_options::on_progress. Reports that
/// follow each other within ten milliseconds are dropped, so that a loop may report freely. Does nothing outside a
/// worker.
void report_progress(double fraction) noexcept;

/// True in a worker process, while a task, the initializer or the finalizer runs.
bool in_worker() noexcept;

/// Which of its pool's workers this is: the lowest number from 0 that no other has, so below pool_options::workers
/// except while a replacement exists beside the worker that it replaces. A dead worker's number is given again. 0
/// outside a worker. For what there is one of per worker: a GPU, a port, a directory.
unsigned worker_index() noexcept;

/// A random number that no other worker has, the same for as long as this worker lives. Generators of the program that
/// were seeded before the worker was forked (std::mt19937 in a static object, say) give the same numbers in every
/// worker until they are seeded from it; those of the C library (rand, random, drand48) are. 0 outside a worker.
std::uint64_t worker_seed() noexcept;

}  // namespace shmpool::this_task
