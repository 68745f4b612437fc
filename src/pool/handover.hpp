// How a task is handed to a worker: its segments, its function if the worker does not know it, and its frame.
//
// Thread safety: none; the engine's lock guards what is involved.
#pragma once

#include "pool/function_table.hpp"
#include "pool/segment_courier.hpp"
#include "pool/task.hpp"
#include "pool/worker_channel.hpp"
#include "process/clock.hpp"

namespace shmpool::pool {

/// Queues all of it for the worker, in whose slots there is room. Throws std::bad_alloc; what is queued by then does
/// the worker no harm, and the next task finds it known or is told again.
void hand_over(worker_channel& to, task& which, function_table& functions, segment_courier& courier,
               monotonic_clock::time_point now);

}  // namespace shmpool::pool
