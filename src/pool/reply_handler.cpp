#include "pool/reply_handler.hpp"

#include "pool/reply_check.hpp"

#include <shmpool/detail/codec/exception_codec.hpp>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <new>
#include <utility>

namespace shmpool::pool {

void reply_handler::violated(worker_channel& from, const char* what) {
  from.condemned = from.life.violated(what);
}

void reply_handler::read(worker_channel& from, time_point now) noexcept {
  try {
    (void)read_frames(from, now);
  } catch (const std::bad_alloc&) {
    from.condemned = from.life.kill(task_ledger::no_memory_text);  // the frame, which may have ended a task, is lost
  }
}

bool reply_handler::read_ring(worker_channel& from, time_point now) noexcept {
  try {
    if (from.replies.take_from_ring()) {
      read(from, now);
      return true;
    }
    if (!from.replies.ahead()) return false;
    violated(from, "more reply bytes on the socket than published in the ring");
    return true;
  } catch (const std::bad_alloc&) {
    from.retries.failed("memory for replies", ENOMEM, now);  // they stay in the ring, for the next look
    return false;
  }
}

void reply_handler::read_last_words(worker_channel& from, time_point now) noexcept {
  if (!from.life.violation().empty()) return;
  try {
    from.collect_last_words();
    if (read_frames(from, now) && from.replies.take_from_ring()) read_frames(from, now);
  } catch (const std::bad_alloc&) {
    // The last frame is lost; its task ends as lost with the worker.
  }
}

bool reply_handler::read_frames(worker_channel& from, time_point now) {
  for (;;) {
    wire::frame next;
    const char* why = nullptr;
    switch (from.replies.next(next)) {
      case wire::frame_reader::status::incomplete: return true;
      case wire::frame_reader::status::malformed: why = from.replies.why(); break;
      case wire::frame_reader::status::frame: why = take(from, next, now); break;
    }
    if (why == nullptr) continue;
    violated(from, why);
    return false;
  }
}

const char* reply_handler::take(worker_channel& from, const wire::frame& in, time_point now) {
  // Each case sets the members of `known` that check_frame() reads for its type.
  sender known;
  known.ready = from.life.is_ready();
  switch (in.header.type) {
    case wire::frame_type::value:
    case wire::frame_type::error:
      known.in_slot = from.handover_in(in.header.slot);
      if (const char* const why = check_frame(in, known)) return why;
      return take_result(from, in, now);
    case wire::frame_type::need:
    case wire::frame_type::open: {
      task_entry* const task = in.header.task != 0 ? from.task_of(in.header.task) : nullptr;
      known.answer_waits = from.answer_waits;
      known.has_task = task != nullptr;
      if (const char* const why = check_frame(in, known)) return why;
      if (in.header.type == wire::frame_type::open) return courier_.answer_open(from, task, in);
      courier_.answer_need(from, task, in);
      return nullptr;
    }
    case wire::frame_type::ready:
      from.life.told_pid(in.header.task);
      if (const char* const why = check_frame(in, known)) return why;
      return take_ready(from, in, now);
    case wire::frame_type::init_failed:
      from.life.told_pid(in.header.task);
      known.any_started = from.started_tasks() != 0;
      if (const char* const why = check_frame(in, known)) return why;
      problems_.is_unfit(in, from.life.pid());
      from.life.unfit();
      scheduler_.worker_unfit(from.id, now);
      return nullptr;
    case wire::frame_type::leaving:
      known.any_started = from.started_tasks() != 0;
      if (const char* const why = check_frame(in, known)) return why;
      from.life.may_leave(worker_exit::reason::idle);
      scheduler_.worker_leaves(from.id, now);
      return nullptr;
    default: break;
  }
  if (const char* const why = check_frame(in, known)) return why;
  if (in.header.type == wire::frame_type::progress) take_progress(from, in);
  else if (in.header.type == wire::frame_type::outgrown) scheduler_.recycle(from.id, now);
  else if (in.header.type == wire::frame_type::released) segment_courier::take_released(from, in);
  return nullptr;
}

const char* reply_handler::take_ready(worker_channel& from, const wire::frame& in, time_point now) {
  from.life.ready();
  from.found_busy(now);
  if (const char* const why = courier_.take_account(from, nullptr, in)) return why;
  from.initializer_leases.clear();
  scheduler_.worker_ready(from.id, now);
  return nullptr;
}

void reply_handler::take_progress(worker_channel& from, const wire::frame& in) {
  const task_entry* const task = from.task_of(in.header.task);
  const auto fraction = std::bit_cast<double>(in.header.value);
  // Ignores progress of a task that has ended meanwhile, and NaN.
  if (task && task->op->on_progress && fraction >= 0 && fraction <= 1) ledger_.notify(task->op->on_progress, fraction);
}

const char* reply_handler::take_result(worker_channel& from, const wire::frame& in, time_point now) {
  task_entry& task = *from.task_in(in.header.slot);
  detail::outcome& result = task.op->result;
  std::vector<std::size_t> used;
  const char* why = read_result(from, task, in, used);
  // Nothing below allocates: a task that the scheduler has forgotten must be completed.
  const std::chrono::nanoseconds longest = now - std::min(task.assigned, now);
  result.run = std::min(std::chrono::nanoseconds(in.header.value & 0x7fff'ffff'ffff'ffffU), longest);
  if (!why && !scheduler_.replied(from.id, task.id, result.run, now)) why = "result of a task that has ended";
  if (why) {
    result = {};
    return why;
  }
  from.found_busy(now);
  from.life.replied();
  result.worker_pid = from.life.pid();
  if (result.threw) {
    ++ledger_.failures().threw;
    result.attachments.clear();
    result.error = nullptr;  // the task's exception counts, and needs no segment
  } else if (result.error) {
    ++ledger_.failures().shm_exhausted;
  } else {
    ledger_.count_success();
    functions_[task.function].result_sizes.swap(used);
  }
  if (task.arrays.empty()) killers_.ended(task.function, task.arguments);
  ledger_.complete(task);
  return nullptr;
}

const char* reply_handler::read_result(worker_channel& from, task_entry& task, const wire::frame& in,
                                       std::vector<std::size_t>& used) {
  if (in.segment_count() != 0) {
    if (const char* const why = courier_.take_account(from, &task, in)) return why;
  }
  detail::outcome& result = task.op->result;
  result.threw = in.header.type == wire::frame_type::error;
  try {
    if (in.is_cut()) throw std::bad_alloc();
    if (in.segment_count() != 0) {
      if (const char* const why = courier_.take_result(in, result, used)) return why;
    }
    if (result.threw && !is_exception(in.body)) return "exception that cannot be read";
    if (result.threw || !result.error) result.bytes.assign(in.body.begin(), in.body.end());
  } catch (const std::bad_alloc&) {
    result = {};
    result.error = ledger_.no_memory();
  }
  return nullptr;
}

bool reply_handler::is_exception(std::span<const std::byte> body) {
  try {
    detail::check_exception(body);
    return true;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (...) {
    return false;
  }
}

}  // namespace shmpool::pool
