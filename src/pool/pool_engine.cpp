#include "pool/pool_engine.hpp"

#include "code/code_ref.hpp"
#include "pool/fork_server.hpp"
#include "pool/freed_segments.hpp"
#include "process/fault_point.hpp"
#include "process/program_start.hpp"
#include "process/signals.hpp"
#include "process/standard_streams.hpp"
#include "sched/deadline_heap.hpp"

#include <shmpool/detail/codec/little_endian.hpp>

#include <sched.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <stdexcept>
#include <utility>

namespace shmpool {

unsigned default_worker_count() noexcept {
  return static_cast<unsigned>(std::max(CPU_COUNT(&process_cpus()), 1));
}

namespace pool {

namespace {

void require(bool holds, const char* message) {
  if (!holds) throw std::invalid_argument(message);
}

void check(const pool_options& options) {
  require(options.workers >= 1 && options.workers <= 4096,
          "pool_options::workers must be 1 to 4096 (leave it out for one worker per CPU)");
  require(options.min_workers <= options.workers, "pool_options::min_workers must be at most pool_options::workers");
  require(options.idle_timeout >= std::chrono::milliseconds::zero(), "pool_options::idle_timeout must not be negative");
  require(options.when_full <= overload::refuse, "pool_options::when_full is neither wait nor refuse");
  require(options.window >= 1 && options.window <= wire::slot_count, "pool_options::window must be 1 to 64");
  require(options.inline_bytes <= 1024 * 1024, "pool_options::inline_bytes must be at most 1 MiB");
  require(options.cancel_grace >= std::chrono::milliseconds::zero(), "pool_options::cancel_grace must not be negative");
  require(options.cache_idle >= std::chrono::milliseconds::zero(), "pool_options::cache_idle must not be negative");
  require(options.spin >= options.spin.zero() && options.spin <= std::chrono::seconds(1),
          "pool_options::spin must be 0 to 1 s");
  require(options.nice >= 0 && options.nice <= 19, "pool_options::nice must be 0 to 19");
  require(options.backend <= backend::epoll, "pool_options::backend is none of automatic, io_uring and epoll");
  require(options.backing <= backing::memfd, "pool_options::backing is none of automatic, posix and memfd");
  require(options.rlimits.size() <= wire::max_rlimits, "pool_options::rlimits has more than 16 entries");
  for (const auto& [resource, value] : options.rlimits) {
    require(resource >= 0 && resource < static_cast<int>(RLIM_NLIMITS),
            "pool_options::rlimits names a resource that does not exist");
  }
  static_assert(cpu_set::capacity == CPU_SETSIZE && resource_limits::capacity == wire::max_rlimits);
  require(!options.cpu_affinity.invalid(), "pool_options::cpu_affinity names a CPU that cannot exist");
}

std::size_t default_cache_bytes() noexcept {
  constexpr std::size_t most = std::size_t{1} << 30;
  struct sysinfo memory {};
  if (::sysinfo(&memory) != 0) return most;
  return std::min<std::size_t>(most, static_cast<std::size_t>(memory.totalram) * memory.mem_unit / 4);
}

shm::store_options store_options_of(const pool_options& options) {
  return {options.backing, options.max_shm_bytes, options.cache_bytes.value_or(default_cache_bytes()),
          options.cache_idle, options.dump_arrays};
}

sched::options scheduler_options_of(const pool_options& options) {
  sched::options result;
  result.max_workers = options.workers;
  result.min_workers = options.min_workers;
  result.max_tasks_per_worker = options.max_tasks_per_worker;
  result.window = options.window;
  result.cancel_grace =
      std::min<std::chrono::milliseconds>(options.cancel_grace, std::chrono::years{100});  // in ns from here
  result.max_pending = options.max_pending;
  result.max_pending_bytes = options.max_pending_bytes;
  result.quarantine_after = options.quarantine_function_after;
  return result;
}

wire::worker_settings settings_of(const pool_options& options) {
  wire::worker_settings settings{};
  settings.nice = options.nice;
  settings.leave_descendants = options.leave_descendants ? 1 : 0;
  settings.ignored_signals = ignored_group_signals();
  settings.rlimit_count = static_cast<std::uint32_t>(options.rlimits.size());
  for (std::size_t i = 0; i != options.rlimits.size(); ++i) {
    settings.rlimits[i].resource = options.rlimits[i].first;
    settings.rlimits[i].value = options.rlimits[i].second;
  }
  settings.use_affinity = options.cpu_affinity.empty() ? 0 : 1;
  CPU_ZERO(&settings.affinity);
  for (const int cpu : options.cpu_affinity) CPU_SET(static_cast<unsigned>(cpu), &settings.affinity);
  return settings;
}

/// A function that runs in every worker, with its arguments, in the hello frame.
void append_call(std::vector<std::byte>& body, const bound_function& which, const char* option) {
  const auto call = which.call();
  body.push_back(std::byte{call != nullptr});
  if (!call) return;
  const auto append = [&](const void* address) {
    const auto where = code::locate(address);
    if (!where)
      throw std::system_error(errc::function_not_found, std::string(option) + " is in no module of this program");
    code::append_code_ref(body, *where);
  };
  append(reinterpret_cast<const void*>(call->code.entry));
  body.push_back(std::byte{call->code.target != nullptr});
  if (call->code.target) append(call->code.target);
  detail::append_le(body, std::uint64_t{call->arguments.size()});
  if (call->arguments.size() > wire::max_body - body.size()) {
    throw std::system_error(errc::message_too_large, std::string("the arguments of ") + option);
  }
  body.insert(body.end(), call->arguments.begin(), call->arguments.end());
}

/// Body of the hello frame: what every worker of the pool is told first.
std::vector<std::byte> hello_of(const pool_options& options, bool lasting) {
  std::vector<std::byte> body;
  const auto put = [&body](const auto& value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    body.insert(body.end(), bytes.begin(), bytes.end());
  };
  put(std::uint64_t{options.inline_bytes});
  put(static_cast<std::uint64_t>(lasting ? 0 : options.idle_timeout.count()));
  put(std::uint64_t{options.max_worker_rss});
  put(std::uint8_t{options.dump_arrays});
  append_call(body, options.initializer, "pool_options::initializer");
  append_call(body, options.finalizer, "pool_options::finalizer");
  return body;
}

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

pool_engine::pool_engine(const pool_options& options)
    : options_(options),
      killers_(options.quarantine_call_after),
      no_memory_(std::make_exception_ptr(std::system_error(
          errc::shm_exhausted, std::string(no_memory) + ", to hand the task over or to take its result in"))) {
  check(options);
  settings_ = settings_of(options);
  hello_ = hello_of(options, false);
  if (options.min_workers != 0) lasting_hello_ = hello_of(options, true);
  has_initializer_ = static_cast<bool>(options.initializer);
  options_.initializer = options_.finalizer = {};  // their arguments may be large
  occupy_standard_streams();
  queue_ = loop::make_completion_queue(options.backend);
  pool::ensure_fork_server();
  store_ = shm::store::open(store_options_of(options));
  unmapped_ = std::make_shared<unmap_list>();
  store_->subscribe(unmapped_);
  server_ = pool::connect_pool(store_->pool_id(), surroundings_);
  SHMPOOL_FAULT_POINT("parent.connected");
  timer_ = unique_fd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer_) throw std::system_error(errno, std::system_category(), "shmpool: timerfd_create");
  scheduler_.emplace(scheduler_options_of(options), static_cast<sched::claims&>(*this));
  timer_watch_.what = loop::operation::kind::poll_in;
  timer_watch_.fd = timer_.get();
  watch_server();
  const auto now = clock::now();
  scheduler_->tick(now);  // starts what is the minimum
  run_actions(now);
  submit_to_loop();
}

pool_engine::~pool_engine() {
  close();
  queue_->cancel_all();  // in a forked copy, which close() leaves alone: links and their operations go before the queue
}

bool pool_engine::active() const noexcept {
  if (made_here_.inherited()) return false;
  std::lock_guard lock(mutex_);
  if (closed_) return false;
  const sched::counts now = scheduler_->count();
  return now.held + now.queued + now.assigned != 0 || !shutdown_waiters_.empty();
}

flush_hint pool_engine::shutdown(operation& op) {
  if (made_here_.inherited()) {
    op.complete(detail::delivery::post);  // nothing here is its to end, and take_completed() is for the original
    return flush_hint::none;
  }
  std::lock_guard lock(mutex_);
  if (closed_ || drained_) {
    completed_.push(op);
    return flush_hint::none;
  }
  shutdown_waiters_.push(op);
  closing_ = true;
  guarded([this] {
    const auto now = clock::now();
    scheduler_->shutdown(now);
    run_actions(now);
  });
  return flush_hint::now;
}

void pool_engine::stop() noexcept {
  if (made_here_.inherited_for_certain()) return;
  std::lock_guard lock(mutex_);
  if (closed_ || drained_) return;
  closing_ = true;
  guarded([this] {
    const auto now = clock::now();
    scheduler_->stop(now);
    run_actions(now);
  });
}

void pool_engine::close() noexcept {
  if (made_here_.inherited_for_certain()) return;
  stop();
  std::lock_guard lock(mutex_);
  if (std::exchange(closed_, true)) return;
  polling_.store(false, std::memory_order_release);
  // From here no worker writes into memory that a user may still hold.
  SHMPOOL_FAULT_POINT("parent.closing");
  const auto deadline = clock::now() + std::chrono::seconds(2);
  meet_last_workers(deadline);
  for (const auto& [id, each] : links_) {
    if (!each->process) continue;
    kill(*each, "the pool was destroyed");
    each->await_end(deadline);
  }
  queue_->cancel_all();
  server_.reset();
  if (refused_since_) {
    for (auto& [id, each] : links_) outlast_loop_.push_back(std::move(each));
  }
  links_.clear();
  store_->close();
  completion_list waiters = std::move(shutdown_waiters_);
  while (operation* op = waiters.pop()) completed_.push(*op);
}

void pool_engine::flush() {
  if (made_here_.inherited()) return;
  std::lock_guard lock(mutex_);
  if (closed_) return;
  guarded([this] { cycle(clock::now()); });
}

void pool_engine::drain() {
  if (made_here_.inherited()) return;
  std::lock_guard lock(mutex_);
  if (closed_) return;
  guarded([this] {
    const auto now = clock::now();
    drain_wanted_ = false;
    reap(now);
    if (now >= timer_due_) {
      timer_due_ = clock::time_point::max();
      on_time(now);
      run_actions(now);
    }
    store_->trim(now);
    arm_timer_for_links();
    cycle(now);
  });
}

completion_list pool_engine::take_completed(std::vector<notice>& notices) noexcept {
  if (made_here_.inherited()) return {};  // they are for the handlers of the process that made the pool
  std::lock_guard lock(mutex_);
  notices.swap(notices_);
  return std::move(completed_);
}

clear_result pool_engine::clear_shm() {
  const clear_result result = store_->clear();
  if (made_here_.inherited()) return result;
  std::lock_guard lock(mutex_);
  if (!closed_) submit_to_loop();  // tells the workers to unmap what was freed
  return result;
}

pool_stats pool_engine::stats() const {
  if (made_here_.inherited()) return {};  // the lock may be another thread's, which the copy does not have
  std::lock_guard lock(mutex_);
  const sched::counts tasks = scheduler_->count();
  const shm::store_stats memory = store_->stats();
  pool_stats result;
  result.backend = queue_->name();
  result.backing = memory.memfd_used || options_.backing == backing::memfd ? "memfd" : "posix";
  result.workers = tasks.workers;
  result.starting_workers = tasks.starting_workers;
  result.idle_workers = tasks.idle_workers;
  result.leaving_workers = tasks.leaving_workers;
  result.workers_started = workers_started_;
  result.workers_retired = workers_retired_;
  result.workers_killed = workers_killed_;
  result.worker_deaths = worker_deaths_;
  result.health = health_of(tasks.health);
  result.next_start = tasks.next_start;
  result.quarantined_functions = tasks.quarantined_kinds;
  result.held = tasks.held;
  result.queued = tasks.queued;
  result.assigned = tasks.assigned;
  for (const auto& [id, each] : links_) result.running += each->started_tasks();
  result.pending_bytes = tasks.bytes;
  result.submitted = submitted_;
  result.completed = succeeded_;
  result.failures = failures_;
  result.failed = failures_.threw + failures_.aborted + failures_.deadline_exceeded + failures_.worker_lost +
                  failures_.shm_exhausted + failures_.protocol_violation + failures_.worker_start_failed +
                  failures_.pool_broken + failures_.quarantined;
  result.live_segments = memory.live_segments;
  result.cached_segments = memory.cached_segments;
  result.live_bytes = memory.live_bytes;
  result.cached_bytes = memory.cached_bytes;
  result.peak_bytes = memory.peak_bytes;
  return result;
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
