#include "pool/handover.hpp"

#include "wire/frame.hpp"

#include <vector>

namespace shmpool::pool {

namespace {

void introduce_function(worker_channel& to, std::uint32_t function, const std::vector<std::byte>& definition) {
  if (function < to.known_functions.size() && to.known_functions[function]) return;
  if (function >= to.known_functions.size()) to.known_functions.resize(function + 1);
  wire::frame_header header;
  header.type = wire::frame_type::function;
  header.value = function;
  to.queue_frame(header, {}, definition);
  to.known_functions[function] = true;
}

}  // namespace

void hand_over(worker_channel& to, task_entry& task, function_table& functions, segment_courier& courier,
               monotonic_clock::time_point now) {
  const function_record& function = functions[task.function];
  introduce_function(to, task.function, function.definition);
  std::vector<wire::segment_ref> segments;
  if (!task.arrays.empty() || !function.result_sizes.empty()) segments = courier.pack(to, task, function.result_sizes);
  task.on = &to;
  task.slot = to.take_slot(task).value();  // the scheduler's window is at most the number of slots
  task.assigned = now;
  task.seen_started = monotonic_clock::time_point::max();
  wire::frame_header header;
  header.type = wire::frame_type::task;
  header.slot = task.slot;
  header.task = to.handover_in(task.slot);
  header.value = task.function;
  to.queue_frame(header, segments, task.arguments);
}

}  // namespace shmpool::pool
