// What the scheduler wants done, done: tasks sent, operations completed, the loop told. Workers are started and killed
// in engine_processes.cpp.
#include "pool/pool_engine.hpp"

#include "pool/freed_segments.hpp"
#include "process/fault_point.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <new>

namespace shmpool::pool {

void pool_engine::run_actions(clock::time_point now) {
  using kind = sched::action::kind;
  sched::action next;
  while (scheduler_->next_action(next)) {
    switch (next.what) {
      case kind::start_worker: start_worker(next.worker, next.lasting); break;
      case kind::admit: admit(*static_cast<task*>(next.context), next.task); break;
      case kind::assign:
        if (worker_channel* to = find(next.worker)) {
          auto& what = *static_cast<task*>(next.context);
          try {
            assign(*to, what, now);
          } catch (const std::bad_alloc&) {
            lacks_memory(*to, what, now);
          }
        }
        break;
      case kind::request_stop: {
        const task& which = *static_cast<task*>(next.context);
        if (which.on)
          which.on->slot(which.slot).stop.store(which.on->handover_in(which.slot), std::memory_order_release);
        break;
      }
      case kind::retire_worker:
        if (worker_channel* which = find(next.worker)) {
          wire::frame_header header;
          header.type = wire::frame_type::leave;
          which->queue_frame(header, {}, {});
          which->state = worker_channel::stage::leaving;
          which->why_it_left = worker_exit::reason::retired;
        }
        break;
      case kind::kill_worker:
        if (worker_channel* which = find(next.worker)) {
          // One that was asked to leave does that, if not in time.
          if (!which->was_asked_to_leave()) which->why_it_left = worker_exit::reason::killed;
          kill(*which, "a task was to end that did not heed it, or the worker was to leave and did not");
        }
        break;
      case kind::complete: fail(*static_cast<task*>(next.context), next); break;
      case kind::drained: finish_shutdown(); break;
    }
  }
}

worker_channel* pool_engine::find(sched::worker_id id) noexcept {
  const auto found = links_.find(id);
  return found == links_.end() ? nullptr : found->second.get();
}

/// There is room for what was held: from here on its caller has a place, and what the place is for will be submitted.
void pool_engine::admit(task& what, sched::task_id id) {
  operation& op = *std::exchange(what.op, nullptr);  // so that its cancel key stays, for the task to come
  finish(what);
  op.result.place = id;
  if (&op == held_now_) held_now_ = nullptr;
  else completed_.push(op);
}

std::vector<sched::task_id> pool_engine::strip(worker_channel& which) {
  std::vector<sched::task_id> started;
  for (std::uint16_t slot = 0; slot != wire::slot_count; ++slot) {
    const auto id = which.task_in(slot);
    auto* each = id == 0 ? nullptr : static_cast<task*>(scheduler_->assigned_context(which.id, id));
    if (!each) continue;
    // By compare-and-swap, as it may live for a moment yet.
    if (!wire::take_back(which.slot(slot), which.handover_in(slot))) started.push_back(id);
    unassign(*each);
  }
  return started;
}

void pool_engine::assign(worker_channel& to, task& what, clock::time_point now) {
  if (!to.has_tasks()) {
    idle_output_ = true;
    to.found_busy(now);
    links_due_ = std::min(links_due_, now + worker_channel::patience);
    if (to.ready && !to.receive.pending) to.start_receiving(*queue_);
  }
  introduce_function(to, what.function);
  std::vector<wire::segment_ref> refs;
  for (const attachment& each : what.attachments) refs.push_back(reference(to, each));
  lease_for(to, what, refs);
  what.on = &to;
  what.slot = to.take_slot(what.id).value();  // the scheduler's window is at most the number of slots
  what.assigned = now;
  what.seen_started = clock::time_point::max();
  wire::frame_header header;
  header.type = wire::frame_type::task;
  header.slot = what.slot;
  header.task = to.handover_in(what.slot);
  header.value = what.function;
  to.queue_frame(header, refs, what.arguments);
}

/// There is no memory to hand a task over. What was queued for it until then does the worker no harm, and the next task
/// finds it known or is told again.
void pool_engine::lacks_memory(worker_channel& at, task& what, clock::time_point now) {
  if (!scheduler_->not_sent(at.id, what.id, now)) return;
  operation& op = *what.op;
  op.result.error = no_memory_;
  ++failures_.shm_exhausted;
  finish(what);
  completed_.push(op);
}

void pool_engine::introduce_function(worker_channel& to, std::uint32_t function) {
  if (function < to.known_functions.size() && to.known_functions[function]) return;
  if (function >= to.known_functions.size()) to.known_functions.resize(function + 1);
  wire::frame_header header;
  header.type = wire::frame_type::function;
  header.value = function;
  to.queue_frame(header, {}, functions_[function].definition);
  to.known_functions[function] = true;
}

wire::segment_ref pool_engine::reference(worker_channel& to, const attachment& what) {
  auto& segment = static_cast<shm::pool_segment&>(*what.handle.get());
  wire::segment_ref ref;
  ref.id = segment.id();
  ref.pool = segment.pool_id();
  ref.capacity = segment.capacity();
  ref.reserved = segment.reserved();
  ref.offset = what.offset;
  ref.length = what.length;
  ref.access = static_cast<std::uint8_t>(what.mode);
  const bool known = !to.known_segments.insert(ref.id).second;
  if (!known) segment.note_mapped_by(to.id);
  if (ref.pool != store_->pool_id() && !known) segment.owner().subscribe(unmapped_);
  if (segment.descriptor() >= 0) {
    ref.flags |= wire::flag_memfd;
    if (!known) {
      wire::segment_ref introduced = ref;
      introduced.flags |= wire::flag_with_fd;
      wire::frame_header header;
      header.type = wire::frame_type::segment;
      to.queue_frame(header, introduced, segment.descriptor(), what.handle);
    }
  }
  return ref;
}

void pool_engine::lease_for(worker_channel& to, task& what, std::vector<wire::segment_ref>& refs) {
  for (const std::size_t bytes : functions_[what.function].result_sizes) {
    shm_handle leased = store_->lease_cached(bytes, to.id);
    if (!leased) continue;
    refs.push_back(reference(to, {leased, 0, bytes, access::lease}));
    what.leases.push_back(std::move(leased));
  }
}

bool pool_engine::take_back(sched::worker_id worker, sched::task_id id) noexcept {
  auto* which = static_cast<task*>(scheduler_->assigned_context(worker, id));
  if (!which || !which->on) return false;
  if (!wire::take_back(which->on->slot(which->slot), which->on->handover_in(which->slot))) return false;
  unassign(*which);
  return true;
}

std::optional<sched::time_point> pool_engine::started(sched::worker_id worker, sched::task_id id) noexcept {
  auto* which = static_cast<task*>(scheduler_->assigned_context(worker, id));
  if (!which || !which->on) return std::nullopt;
  const wire::slot& slot = which->on->slot(which->slot);
  if (slot.word.load(std::memory_order_acquire) !=
      wire::slot_word(which->on->handover_in(which->slot), wire::slot_state::started)) {
    return std::nullopt;
  }
  // The clock is the same in every process, or should be. The worker cannot have started it before it had it, nor
  // later than it was first seen to have: a time that is always now would put a deadline off for ever.
  which->seen_started = std::min(which->seen_started, clock::now());
  const auto told = clock::time_point(std::chrono::nanoseconds(slot.started_ns.load(std::memory_order_relaxed)));
  return std::clamp(told, which->assigned, std::max(which->assigned, which->seen_started));
}

void pool_engine::unassign(task& what) noexcept {
  if (what.on) what.on->free_slot(what.slot);
  what.on = nullptr;
  what.leases.clear();
}

/// The task is over: gives its record and its claims on memory back.
void pool_engine::finish(task& what) {
  unassign(what);
  for (const attachment& each : what.attachments) {
    shm::end_lend(static_cast<shm::pool_segment&>(*each.handle.get()), each.offset, each.length,
                  each.mode != access::read);
  }
  what.attachments.clear();
  std::vector<std::byte>().swap(what.arguments);
  if (what.op && what.op->cancel_key != 0) cancel_keys_.erase(what.op->cancel_key);
  what.op = nullptr;
  what.id = 0;
  spare_tasks_.push_back(&what);
}

void pool_engine::fail(task& what, const sched::action& how) {
  const sched::failure why = how.why;
  operation& op = *what.op;
  try {
    note_failure(op.result, how);
  } catch (const std::bad_alloc&) {
    op.result.error = no_memory_;  // the scheduler has forgotten the task: it must end here
  }
  if (what.on && what.on->state != worker_channel::stage::gone) {
    auto& abandoned = what.on->abandoned;
    try {
      abandoned.reserve(abandoned.size() + what.leases.size() + what.attachments.size());
      for (const shm_handle& each : what.leases) abandoned.push_back(each);
      for (const attachment& each : what.attachments) abandoned.push_back(each.handle);
    } catch (const std::bad_alloc&) {
      // The worker may still write there, and nobody can remember until when: it is never used again.
      for (const shm_handle& each : what.leases) each.get()->retain();
      for (const attachment& each : what.attachments) each.handle.get()->retain();
    }
  }
  finish(what);
  switch (why) {
    case sched::failure::none: break;
    case sched::failure::cancelled:
    case sched::failure::pool_stopped: ++failures_.aborted; break;
    case sched::failure::deadline_exceeded: ++failures_.deadline_exceeded; break;
    case sched::failure::worker_lost: {
      const worker_channel* lost = find(how.worker);
      ++(lost && !lost->violation.empty() ? failures_.protocol_violation : failures_.worker_lost);
      break;
    }
    case sched::failure::worker_start_failed: ++failures_.worker_start_failed; break;
    case sched::failure::pool_broken: ++failures_.pool_broken; break;
    case sched::failure::quarantined: ++failures_.quarantined; break;
  }
  completed_.push(op);
}

void pool_engine::note_failure(outcome& of, const sched::action& how) {
  switch (how.why) {
    case sched::failure::cancelled:
    case sched::failure::pool_stopped: of.aborted = true; return;
    case sched::failure::deadline_exceeded:
      of.error = std::make_exception_ptr(std::system_error(errc::deadline_exceeded));
      return;
    case sched::failure::worker_start_failed:
      of.error = std::make_exception_ptr(std::system_error(errc::worker_start_failed, start_failure_));
      return;
    case sched::failure::pool_broken: of.broken = why_broken(); return;
    case sched::failure::quarantined:
      of.error = std::make_exception_ptr(
          std::system_error(errc::quarantined, "its function has killed nearly every worker that ran it"));
      return;
    case sched::failure::none:
    case sched::failure::worker_lost: return note_loss(of, how);
  }
}

std::shared_ptr<const breakage> pool_engine::why_broken() const {
  if (scheduler_->broken()) return broken_;
  auto result = std::make_shared<breakage>(last_problem_);
  if (result->why.empty()) result->why = "workers die before they have run a task; the last one: " + last_death_;
  if (const auto next = scheduler_->count().next_start) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*next - clock::now()).count();
    result->outlook = "; it is tried again with the first submit";
    if (left > 0) result->outlook += " after " + std::to_string(left) + " ms";
  }
  return result;
}

void pool_engine::note_loss(outcome& of, const sched::action& how) const {
  worker_lost::details details;
  details.started = how.begun;
  if (const auto found = links_.find(how.worker); found != links_.end()) {
    const worker_channel& dead = *found->second;
    if (!dead.violation.empty()) {
      of.error = std::make_exception_ptr(std::system_error(errc::protocol_violation, dead.violation));
      return;
    }
    details = end_of(dead);
    details.started = how.begun;
  }
  of.error = std::make_exception_ptr(worker_lost(details));
}

worker_lost::details pool_engine::end_of(const worker_channel& which) const {
  worker_lost::details details;
  which.describe_end(details);
  details.killed_because = which.killed_because;
  details.cpu_time = std::chrono::duration_cast<std::chrono::milliseconds>(which.cpu_time);
  if (details.signal != SIGXCPU && details.signal != SIGKILL) return details;
  std::uint64_t limit = RLIM_INFINITY;
  if (rlimit inherited{}; ::getrlimit(RLIMIT_CPU, &inherited) == 0) limit = inherited.rlim_cur;
  for (const auto& [resource, value] : options_.rlimits) {
    if (resource == RLIMIT_CPU) limit = value;
  }
  // The kernel counts ticks for the one, and nanoseconds for the other.
  if (limit == RLIM_INFINITY || limit == 0 || which.cpu_time * 11 < std::chrono::seconds(limit) * 10) return details;
  details.cpu_limit = std::chrono::seconds(limit);
  return details;
}

void pool_engine::finish_shutdown() {
  SHMPOOL_FAULT_POINT("parent.drained");
  drained_ = true;
  store_->clear();
  server_watch_.owner = nullptr;
  queue_->cancel(server_watch_);
  while (operation* op = shutdown_waiters_.pop()) completed_.push(*op);
}

void pool_engine::tell_unmapped() {
  const auto ids = unmapped_->take();
  if (ids.empty()) return;
  for (const auto& [id, each] : links_) {
    if (each->state == worker_channel::stage::gone) continue;
    std::vector<std::uint64_t> known;
    for (const std::uint64_t segment : ids) {
      if (each->known_segments.erase(segment) != 0) known.push_back(segment);
    }
    if (known.empty()) continue;
    wire::frame_header header;
    header.type = wire::frame_type::unmap;
    each->queue_frame(header, {}, std::as_bytes(std::span(known)));
  }
}

void pool_engine::submit_to_loop() {
  if (loop_lost_) return;
  tell_unmapped();
  const bool polled = polling_.load(std::memory_order_relaxed);
  const auto spin = spin_time();
  for (const auto& [id, each] : links_) {
    if (each->has_tasks()) {
      if (polled) each->set_polled(true);
      each->let_spin(spin);
    }
    each->start_sending(*queue_);
  }
  if (const std::error_code error = queue_->submit()) loop_refused(error);
  else refused_since_.reset();
}

void pool_engine::cycle(clock::time_point now) {
  // What is reaped starts new operations, which have to be submitted in turn. Sends usually end at once; reaping them
  // here saves a turn of the user's loop.
  constexpr int bound = 4;
  submit_time_.reset();
  plan_polling(now);
  for (int i = 0; i != bound; ++i) {
    submit_to_loop();
    if (!reap(now)) break;
    if (i == bound - 1) submit_to_loop();
  }
  heed_refusal(now);
}

bool pool_engine::arm_timer_for_links() {
  links_due_ = clock::time_point::max();
  for (const auto& [id, each] : links_) links_due_ = std::min(links_due_, each->due());
  return arm_timer();
}

bool pool_engine::arm_timer() {
  auto due = std::min(scheduler_->next_deadline().value_or(clock::time_point::max()), links_due_);
  if (server_due_) due = std::min(due, *server_due_);
  if (drain_wanted_) due = clock::time_point::min();
  if (due < timer_due_) {  // a timer that is early does no harm
    timer_due_ = due;
    set_timer(timer_.get(), due);
  }
  // Also where the timer was set anew after it had expired and before the wait for it was reaped.
  if (timer_due_ == clock::time_point::max() || timer_watch_.pending) return false;
  queue_->start(timer_watch_);
  return true;
}

}  // namespace shmpool::pool
