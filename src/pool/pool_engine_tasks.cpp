// How tasks enter and leave a pool: the calls about tasks, and the scheduler's actions. If memory runs out, a submit
// fails and leaves the pool unchanged.
#include "pool/handover.hpp"
#include "pool/option_checks.hpp"
#include "pool/pool_engine.hpp"
#include "pool/task_failure.hpp"
#include "process/assert.hpp"
#include "process/fault_point.hpp"
#include "process/mutex.hpp"

#include <chrono>
#include <new>
#include <string>
#include <system_error>
#include <utility>

namespace shmpool::pool {

namespace {

/// The scheduler's number for a function of the pool; there 0 is like no other.
constexpr std::uint32_t kind_of(std::uint32_t function) noexcept {
  return function + 1;
}

}  // namespace

// ---- Tasks enter.

bool pool_engine::has_admission_limit() const noexcept {
  return options_.when_full == overload::wait && (options_.max_pending != 0 || options_.max_pending_bytes != 0);
}

pool_engine::flush_hint pool_engine::acquire(operation& op, std::uint64_t& permit) {
  permit = 0;
  if (made_here_.inherited()) throw std::system_error(errc::pool_closed, "this is a forked copy of the pool");
  mutex_lock lock(mutex_);
  if (phase_ != phase::open) throw std::system_error(errc::pool_closed);
  const auto now = clock::now();
  if (scheduler_.refuses(now)) {
    const auto why = why_broken(problems_, scheduler_);
    lock.unlock();  // user code may decode the exception in it
    std::rethrow_exception(error_of(*why));
  }
  task_entry& task = ledger_.open(op);
  enter(task, 0, [&] {
    mutex_.assert_held();
    return scheduler_.hold(task.handle, op.deadline, now);
  });
  op.result.permit = 0;
  held_now_ = &op;
  or_break([&] {
    mutex_.assert_held();
    run_actions(now);
  });
  if (std::exchange(held_now_, nullptr) == nullptr) permit = op.result.permit;
  return react();
}

pool_engine::flush_hint pool_engine::release(std::uint64_t permit, std::uint64_t cancel_key) noexcept {
  if (made_here_.inherited_for_certain()) return flush_hint::none;
  const mutex_lock lock(mutex_);
  if (phase_ == phase::closed) return flush_hint::none;
  ledger_.forget_key(cancel_key);
  or_break([&] {
    mutex_.assert_held();
    const auto now = clock::now();
    scheduler_.withdraw(permit, now);
    run_actions(now);
  });
  return react();
}

pool_engine::flush_hint pool_engine::submit(operation& op, const detail::callable_ref& fn,
                                            std::vector<std::byte>&& arguments,
                                            std::vector<detail::attachment>&& attachments, const task_options& options,
                                            std::uint64_t permit) {
  if (arguments.size() > wire::max_body) {
    throw std::system_error(errc::message_too_large,
                            "the arguments take " + std::to_string(arguments.size()) + " bytes");
  }
  if (attachments.size() > wire::max_arrays) {
    throw std::system_error(errc::message_too_large,
                            "the arguments have " + std::to_string(attachments.size()) + " arrays");
  }
  check(options);
  if (made_here_.inherited()) throw std::system_error(errc::pool_closed, "this is a forked copy of the pool");
  mutex_lock lock(mutex_);
  if (phase_ == phase::closed || (phase_ != phase::open && permit == 0)) throw std::system_error(errc::pool_closed);
  const auto now = submit_time_ ? *submit_time_ : clock::now();
  if (scheduler_.refuses(now)) {
    const auto why = why_broken(problems_, scheduler_);
    lock.unlock();  // user code may decode the exception in it
    std::rethrow_exception(error_of(*why));
  }
  const std::uint32_t function = functions_.number(fn);
  check_quarantine(function, arguments, !attachments.empty(), now);

  lent_arrays arrays(std::move(attachments));
  sched::task_spec spec;
  spec.warm_workers = arrays.mapped_by();
  spec.bytes = arguments.size() + arrays.bytes();
  task_entry& task = ledger_.open(op);
  op.result.permit = 0;  // it may have waited for the permit
  task.function = function;
  task.arguments = std::move(arguments);
  task.arrays = std::move(arrays);
  if (options.on_progress) op.on_progress = options.on_progress;

  spec.handle = task.handle;
  spec.kind = kind_of(function);
  spec.timeout = options.timeout;
  spec.deadline = op.deadline;
  if (options.cancel_grace) spec.cancel_grace = in_nanoseconds(*options.cancel_grace);
  spec.attempts = options.attempts;
  const bool entered = enter(task, permit, [&] {
    mutex_.assert_held();
    if (permit == 0) return scheduler_.submit(spec, now);
    scheduler_.submit(permit, spec, now);
    return permit;
  });
  if (!entered) throw std::system_error(errc::queue_full, bound_reached());
  ledger_.count_submit();
  flush_hint next = flush_hint::none;
  if (!scheduler_.only_queued() || spec.deadline != clock::time_point::max()) {
    idle_output_ = false;
    or_break([&] {
      mutex_.assert_held();
      run_actions(now);
    });
    next = react();
    if (next == flush_hint::none && task.on) next = flush_hint::soon;
  }
  if (next != flush_hint::none || poller_.polling_under_lock()) submit_time_ = now;  // the pool's next turn is near
  return next;
}

template <class Event>
bool pool_engine::enter(task_entry& task, std::uint64_t permit, Event event) {
  const std::size_t others = scheduler_.task_count();
  sched::task_id id = 0;
  try {
    id = event();
  } catch (...) {
    if (permit != 0 ? scheduler_.awaits_submit(permit) : scheduler_.task_count() == others) {
      ledger_.close(task);
      throw;
    }
    break_on_exception(std::current_exception());  // the scheduler has the task, so it ends like all others
    return true;
  }
  if (id == 0) {
    ledger_.close(task);
    return false;
  }
  ledger_.known_as(task, id);
  return true;
}

void pool_engine::check_quarantine(std::uint32_t function, std::span<const std::byte> arguments, bool with_arrays,
                                   clock::time_point now) const {
  if (const unsigned kills = with_arrays ? 0 : killers_.refuses(function, arguments, now); kills != 0) {
    throw std::system_error(errc::quarantined, "this call has killed " + std::to_string(kills) + " workers");
  }
  if (scheduler_.admits(kind_of(function), now)) return;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(scheduler_.admits_at(kind_of(function)) - now).count();
  throw std::system_error(errc::quarantined,
                          "the function has killed nearly every worker that ran it; one call is let through in " +
                              std::to_string(left) + " ms");
}

std::string pool_engine::bound_reached() const {
  const sched::counts tasks = scheduler_.count();
  if (options_.max_pending != 0 && tasks.queued + tasks.assigned >= options_.max_pending) {
    return "pool_options::max_pending = " + std::to_string(options_.max_pending);
  }
  return "pool_options::max_pending_bytes = " + std::to_string(options_.max_pending_bytes);
}

pool_engine::flush_hint pool_engine::react() {
  bool waits = false;
  or_break([&] {
    mutex_.assert_held();
    waits = arm_timer(crew_.due());
  });
  if (std::exchange(idle_output_, false) || ledger_.any_completed()) return flush_hint::now;
  return waits ? flush_hint::soon : flush_hint::none;
}

// ---- Actions of the scheduler.

void pool_engine::run_actions(clock::time_point now) {
  using kind = sched::action::kind;
  sched::action next;
  while (scheduler_.next_action(next)) {
    task_entry* const task = ledger_.find(next.handle);
    worker_channel* const worker = crew_.find(next.worker);
    switch (next.what) {
      case kind::start_worker:
        crew_.start(next.worker, next.lasting, now);
        idle_output_ = true;
        break;
      case kind::admit: admit(*task, next.task); break;
      case kind::assign:
        if (worker) assign(*worker, *task, now);
        break;
      case kind::request_stop: task->request_stop(); break;
      case kind::retire_worker:
        if (worker) crew_.retire(*worker);
        break;
      case kind::kill_worker:
        if (worker) crew_.kill_for_task(*worker, now);
        break;
      case kind::complete: fail(*task, next); break;
      case kind::drained: finish_shutdown(); break;
    }
  }
}

/// Admits a held submit: its caller owns a permit now, and will submit with it or release it.
void pool_engine::admit(task_entry& task, sched::task_id id) {
  operation& op = ledger_.close_held(task);
  op.result.permit = id;
  if (&op == held_now_) held_now_ = nullptr;
  else ledger_.push(op);
}

void pool_engine::assign(worker_channel& to, task_entry& task, clock::time_point now) {
  try {
    const bool was_idle = !to.has_tasks();
    hand_over(to, task, functions_, courier_, now);
    if (!was_idle) return;
    idle_output_ = true;
    crew_.now_busy(to, now);
  } catch (const std::bad_alloc&) {
    if (!scheduler_.not_sent(to.id, task.id, now)) return;
    ++ledger_.failures().shm_exhausted;
    task.op->result.error = ledger_.no_memory();
    ledger_.complete(task);
  }
}

void pool_engine::fail(task_entry& task, const sched::action& how) {
  detail::outcome& result = task.op->result;
  try {
    note_failure(result, how, crew_, problems_, scheduler_);
  } catch (const std::bad_alloc&) {
    result.error = ledger_.no_memory();  // the scheduler has forgotten the task: it must end here
  }
  count_failure(ledger_.failures(), how, crew_);
  task.abandon();
  ledger_.complete(task);
}

void pool_engine::finish_shutdown() {
  SHMPOOL_FAULT_POINT("parent.drained");
  SHMPOOL_ASSERT(phase_ != phase::open && scheduler_.task_count() == 0);
  if (phase_ < phase::drained) phase_ = phase::drained;
  courier_.store().clear();
  crew_.stop_watching();
  while (operation* op = shutdown_waiters_.pop()) ledger_.push(*op);
}

}  // namespace shmpool::pool
