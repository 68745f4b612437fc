// How a task is handed to a worker: its segments, its function if the worker does not know it, and its frame.
//
// Thread safety: none; the engine's lock guards all arguments.
#pragma once

#include "pool/function_table.hpp"
#include "pool/segment_courier.hpp"
#include "pool/task_entry.hpp"
#include "pool/worker_channel.hpp"
#include "process/clock.hpp"

namespace shmpool::pool {

/// Queues the frames of the task for a worker that has a free slot. Throws std::bad_alloc; frames that are queued by
/// then do no harm: the next task relies on them, or queues them again.
void hand_over(worker_channel& to, task_entry& task, function_table& functions, segment_courier& courier,
               monotonic_clock::time_point now);

}  // namespace shmpool::pool
