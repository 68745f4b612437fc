#include "pool/pool_engine.hpp"

#include "pool/fork_server.hpp"
#include "pool/option_checks.hpp"
#include "process/fault_point.hpp"
#include "process/mutex.hpp"
#include "process/program_start.hpp"
#include "process/standard_streams.hpp"
#include "sched/deadline_heap.hpp"
#include "wire/hello.hpp"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <utility>

namespace shmpool {

unsigned default_worker_count() noexcept {
  return static_cast<unsigned>(std::max(CPU_COUNT(&process_cpus()), 1));
}

namespace pool {

namespace {

/// A function that runs in every worker, with its arguments.
std::optional<wire::named_call> name_call(const bound_function& which, const char* option) {
  const auto call = which.call();
  if (!call) return std::nullopt;
  wire::named_call named;
  named.function.entry = code::locate_or_throw(reinterpret_cast<const void*>(call->code.entry), option);
  if (call->code.target) named.function.target = code::locate_or_throw(call->code.target, option);
  named.arguments.assign(call->arguments.begin(), call->arguments.end());
  return named;
}

crew::orders orders_of(const pool_options& options) {
  wire::hello told;
  told.inline_bytes = options.inline_bytes;
  using std::chrono::milliseconds;
  const auto idle = std::chrono::duration_cast<milliseconds>(in_nanoseconds(options.idle_timeout));
  told.idle_ms = static_cast<std::uint64_t>(idle.count());
  told.max_resident_bytes = options.max_worker_rss;
  told.dump_arrays = options.dump_arrays;
  told.initializer = name_call(options.initializer, "pool_options::initializer");
  told.finalizer = name_call(options.finalizer, "pool_options::finalizer");
  crew::orders orders;
  orders.settings = worker_settings_of(options);
  orders.hello = told.encode();
  if (options.min_workers != 0) {
    told.idle_ms = 0;
    orders.lasting_hello = told.encode();
  }
  orders.leave_descendants = options.leave_descendants;
  orders.cpu_limit = cpu_limit_of(options);
  orders.on_worker_exit = options.on_worker_exit;
  return orders;
}

/// Checks the options before any member is constructed.
const pool_options& checked(const pool_options& options) {
  check(options);
  occupy_standard_streams();
  return options;
}

/// Drops initializer and finalizer, which are not needed later: their arguments may be large.
pool_options without_functions(pool_options options) {
  options.initializer = options.finalizer = {};
  return options;
}

/// Starts the fork server before the pool makes its first name, so that the server can remove it.
shm::store_options with_server(const shm::store_options& options) {
  ensure_fork_server();
  return options;
}

}  // namespace

pool_engine::pool_engine(const pool_options& options)
    : options_(without_functions(checked(options))),
      loop_(options.backend),
      problems_(static_cast<bool>(options.initializer)),
      killers_(options.quarantine_call_after),
      courier_(with_server(store_options_of(options))),
      claims_(ledger_),
      scheduler_(scheduler_options_of(options), claims_),
      replies_(scheduler_, ledger_, courier_, functions_, killers_, problems_),
      crew_(orders_of(options), servers_for(courier_.store().pool_id()), loop_, scheduler_, ledger_, replies_, killers_,
            problems_),
      poller_(options.spin, default_worker_count()) {
  SHMPOOL_FAULT_POINT("parent.connected");
  claims_.ask_about(scheduler_);
  const auto now = clock::now();
  scheduler_.tick(now);  // starts min_workers
  run_actions(now);
  submit_to_loop(now);
}

pool_engine::~pool_engine() {
  close();
  if (made_here_.inherited_for_certain()) ledger_.forget_all();
  loop_.queue().cancel_all();  // for a forked copy, where close() did nothing: the operations are destroyed first
}

bool pool_engine::active() const noexcept {
  if (made_here_.inherited()) return false;
  const mutex_lock lock(mutex_);
  if (phase_ == phase::closed) return false;
  return scheduler_.task_count() != 0 || !shutdown_waiters_.empty();
}

// ---- Calls from above.

pool_engine::flush_hint pool_engine::cancel(std::uint64_t cancel_key, detail::cancel_kind kind) {
  if (made_here_.inherited()) return flush_hint::none;
  const mutex_lock lock(mutex_);
  const auto found = ledger_.find_key(cancel_key);
  if (!found || phase_ == phase::closed) return flush_hint::none;
  or_break([&] {
    mutex_.assert_held();
    const auto now = clock::now();
    scheduler_.cancel(*found, kind, now);
    run_actions(now);
    arm_timer(crew_.due());
  });
  return flush_hint::now;
}

pool_engine::flush_hint pool_engine::shutdown(operation& op) {
  if (made_here_.inherited()) {
    op.complete(detail::delivery::post);  // a copy has no tasks to end, and take_completed() is for the original
    return flush_hint::none;
  }
  const mutex_lock lock(mutex_);
  if (phase_ >= phase::drained) {
    ledger_.push(op);
    return flush_hint::none;
  }
  shutdown_waiters_.push(op);
  phase_ = phase::closing;
  or_break([this] {
    mutex_.assert_held();
    const auto now = clock::now();
    scheduler_.shutdown(now);
    run_actions(now);
  });
  return flush_hint::now;
}

void pool_engine::stop() noexcept {
  if (made_here_.inherited_for_certain()) return;
  const mutex_lock lock(mutex_);
  if (phase_ >= phase::drained) return;
  phase_ = phase::closing;
  or_break([this] {
    mutex_.assert_held();
    const auto now = clock::now();
    scheduler_.stop(now);
    run_actions(now);
  });
}

void pool_engine::close() noexcept {
  if (made_here_.inherited_for_certain()) return;
  stop();
  const mutex_lock lock(mutex_);
  if (std::exchange(phase_, phase::closed) == phase::closed) return;
  poller_.close();
  // From here no worker writes into memory that a user may still hold.
  SHMPOOL_FAULT_POINT("parent.closing");
  crew_.end_all("the pool was destroyed", clock::now() + std::chrono::seconds(2));
  loop_.queue().cancel_all();
  crew_.forget_all();
  courier_.store().close();
  detail::completion_list waiters = std::move(shutdown_waiters_);
  while (operation* op = waiters.pop()) ledger_.push(*op);
}

bool pool_engine::flush() {
  if (made_here_.inherited()) return false;
  const mutex_lock lock(mutex_);
  if (phase_ != phase::closed) {
    or_break([this] {
      mutex_.assert_held();
      cycle(clock::now());
    });
  }
  return ledger_.has_news();
}

void pool_engine::drain() {
  if (made_here_.inherited()) return;
  const mutex_lock lock(mutex_);
  if (phase_ == phase::closed) return;
  or_break([this] {
    mutex_.assert_held();
    const auto now = clock::now();
    loop_.heard();
    reap(now);
    if (crew_.hear(now)) run_actions(now);
    if (loop_.is_due(now)) {
      on_time(now);
      run_actions(now);
    }
    courier_.store().trim(now);
    arm_timer(crew_.due());
    cycle(now);
  });
}

bool pool_engine::poll() {
  if (made_here_.inherited()) return false;
  const mutex_lock lock(mutex_);
  if (phase_ == phase::closed) return false;
  submit_time_.reset();
  bool found = false;
  or_break([&] {
    mutex_.assert_held();
    const auto now = clock::now();
    found = look(now);
    const bool ends = !found && (poller_.is_over(now) || scheduler_.assigned_count() == 0);
    if (ends) found = end_polling(now);
    if (found) {
      arm_timer(crew_.due());
      cycle(now);
    } else if (ends && arm_timer(crew_.due())) {
      loop_.submit(now);  // the last look may have failed, and is to be repeated
    }
  });
  return found;
}

void pool_engine::stop_polling() {
  if (made_here_.inherited()) return;
  const mutex_lock lock(mutex_);
  if (phase_ == phase::closed) return;
  or_break([this] {
    mutex_.assert_held();
    const auto now = clock::now();
    end_polling(now);
    // Perhaps only drain() will deliver the completions that this has found.
    loop_.wake_now();
    arm_timer(crew_.due());
    submit_to_loop(now);
  });
}

std::chrono::milliseconds pool_engine::retry_after() const noexcept {
  if (made_here_.inherited()) return {};
  const mutex_lock lock(mutex_);
  if (phase_ == phase::closed || !loop_.is_refused()) return {};
  return loop_.retry_after(clock::now());
}

detail::completion_list pool_engine::take_completed(std::vector<detail::notice>& notices) noexcept {
  if (made_here_.inherited()) return {};  // completions are for the handlers of the process that made the pool
  const mutex_lock lock(mutex_);
  return ledger_.take_completed(notices);
}

clear_result pool_engine::clear_shm() {
  const clear_result result = courier_.store().clear();
  if (made_here_.inherited()) return result;
  const mutex_lock lock(mutex_);
  if (phase_ == phase::closed) return result;
  or_break([this] {
    mutex_.assert_held();
    const auto now = clock::now();
    submit_to_loop(now);  // tells the workers to unmap what was freed
    if (arm_timer(crew_.due())) loop_.submit(now);
  });
  return result;
}

namespace {

pool_health health_of(sched::pool_health known) noexcept {
  switch (known) {
    case sched::pool_health::healthy: return pool_health::healthy;
    case sched::pool_health::failing: return pool_health::failing;
    case sched::pool_health::broken: return pool_health::broken;
    case sched::pool_health::lost: break;
  }
  return pool_health::lost;
}

}  // namespace

pool_stats pool_engine::stats() const {
  if (made_here_.inherited()) return {};  // a thread that the copy does not have may hold the lock
  const mutex_lock lock(mutex_);
  pool_stats result;
  ledger_.count(result);
  crew_.count(result);
  const sched::counts tasks = scheduler_.count();
  result.workers = tasks.workers;
  result.starting_workers = tasks.starting_workers;
  result.idle_workers = tasks.idle_workers;
  result.leaving_workers = tasks.leaving_workers;
  result.health = health_of(tasks.health);
  result.next_start = tasks.next_start;
  result.quarantined_functions = tasks.quarantined_kinds;
  result.held = tasks.held;
  result.queued = tasks.queued;
  result.assigned = tasks.assigned;
  result.pending_bytes = tasks.bytes;
  const shm::store_stats memory = courier_.store().stats();
  result.live_segments = memory.live_segments;
  result.cached_segments = memory.cached_segments;
  result.live_bytes = memory.live_bytes;
  result.cached_bytes = memory.cached_bytes;
  result.peak_bytes = memory.peak_bytes;
  result.backend = loop_.queue().name();
  result.backing = memory.memfd_used || options_.backing == backing::memfd ? "memfd" : "posix";
  return result;
}

// ---- The turn of the loop.

bool pool_engine::reap(clock::time_point now) {
  bool any = false;
  while (loop::operation* op = loop_.queue().reap()) {
    any = true;
    if (loop_.is_timer(*op)) {
      loop_.expired();
      on_time(clock::now());
    } else if (!crew_.server_reaped(*op, now)) {
      crew_.reaped(*static_cast<worker_channel*>(op->owner), *op, now);
    }
    run_actions(now);
  }
  crew_.sweep();  // only now: the actions above may ask how a worker ended
  const bool waits = arm_timer(crew_.due());
  return any || waits;
}

void pool_engine::on_time(clock::time_point now) {
  // First take in replies that reached a ring in time while the loop was busy.
  if (crew_.hear(now)) run_actions(now);
  if (poller_.polling_under_lock()) look(now);
  scheduler_.tick(now);
  crew_.tick(now);
}

bool pool_engine::look(clock::time_point now) {
  if (!crew_.look(now)) return false;
  poller_.found();
  run_actions(now);
  return true;
}

bool pool_engine::end_polling(clock::time_point now) {
  if (!poller_.end() || !crew_.end_polling(now)) return false;
  poller_.found();
  run_actions(now);
  return true;
}

void pool_engine::submit_to_loop(clock::time_point now) {
  if (loop_.is_lost()) return;
  if (const auto freed = courier_.take_freed(); !freed.empty()) {
    crew_.each([&](worker_channel& to) { segment_courier::tell_freed(to, freed); });
  }
  crew_.send(poller_.polling_under_lock(), spin_time(), now);
  loop_.submit(now);
}

void pool_engine::cycle(clock::time_point now) {
  // Reaped operations start new ones, which have to be submitted in turn. Sends usually end at once; reaping them here
  // saves a turn of the user's loop.
  constexpr int bound = 4;
  submit_time_.reset();
  if (scheduler_.assigned_count() != 0)
    poller_.plan(ledger_.several_completed(), spin_time(), now);  // else poll() ends it
  for (int i = 0; i != bound; ++i) {
    submit_to_loop(now);
    if (!reap(now)) break;
    if (i != bound - 1) continue;
    submit_to_loop(now);
    if (arm_timer(crew_.due())) loop_.submit(now);
  }
  give_up_if_refused(now);
}

bool pool_engine::arm_timer(clock::time_point workers_due) {
  return loop_.wake_at(std::min(scheduler_.next_deadline().value_or(clock::time_point::max()), workers_due));
}

std::chrono::nanoseconds pool_engine::spin_time() const noexcept {
  return poller_.spin_time(scheduler_.busy_workers());
}

void pool_engine::give_up_if_refused(clock::time_point now) {
  auto why = loop_.given_up(now);
  if (!why) return;
  crew_.break_pool({*std::move(why)}, now);
  run_actions(now);
  // The loop cannot wait for the ends of workers any more, so wait here.
  crew_.end_without_loop(clock::now() + pool_loop::patience, now);
  run_actions(now);
}

/// An exception has stopped a body half-way and left an unknown state: every task ends here.
void pool_engine::break_on_exception(const std::exception_ptr& cause) noexcept {
  const auto now = clock::now();
  std::string why;
  try {
    try {
      std::rethrow_exception(cause);
    } catch (const std::exception& error) {
      why = std::string("the pool cannot go on: ") + error.what();
    }
  } catch (...) {
    // Not even memory for the text.
  }
  crew_.break_pool({std::move(why), cause, std::nullopt, 0}, now);
  // An action that fails when memory has run out is off the list already: go on with the others.
  for (bool done = false; !done;) {
    try {
      run_actions(now);
      done = true;
    } catch (...) {
    }
  }
}

}  // namespace pool

namespace detail {

std::chrono::steady_clock::time_point deadline_after(std::chrono::nanoseconds span) {
  if (span < span.zero()) throw std::invalid_argument("task_options::deadline must not be negative");
  return span == span.zero() ? monotonic_clock::time_point::max() : sched::later(monotonic_clock::now(), span);
}

std::uint64_t next_cancel_key() noexcept {
  static std::atomic<std::uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

std::shared_ptr<engine> make_engine(const pool_options& options) {
  return std::make_shared<pool::pool_engine>(options);
}

}  // namespace detail
}  // namespace shmpool
