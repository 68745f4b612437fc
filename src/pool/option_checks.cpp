#include "pool/option_checks.hpp"

#include "process/signals.hpp"
#include "wire/control_page.hpp"

#include <sched.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <stdexcept>

namespace shmpool::pool {

namespace {

void require(bool holds, const char* message) {
  if (!holds) throw std::invalid_argument(message);
}

std::size_t default_cache_bytes() noexcept {
  constexpr std::size_t most = std::size_t{1} << 30;
  struct sysinfo memory {};
  if (::sysinfo(&memory) != 0) return most;
  return std::min<std::size_t>(most, static_cast<std::size_t>(memory.totalram) * memory.mem_unit / 4);
}

}  // namespace

void check(const pool_options& options) {
  using std::chrono::milliseconds;
  require(options.workers >= 1 && options.workers <= 4096,
          "pool_options::workers must be 1 to 4096 (leave it out for one worker per CPU)");
  require(options.min_workers <= options.workers, "pool_options::min_workers must be at most pool_options::workers");
  require(options.idle_timeout >= milliseconds::zero(), "pool_options::idle_timeout must not be negative");
  require(options.when_full <= overload::refuse, "pool_options::when_full is neither wait nor refuse");
  require(options.window >= 1 && options.window <= wire::slot_count, "pool_options::window must be 1 to 64");
  require(options.inline_bytes <= 1024 * 1024, "pool_options::inline_bytes must be at most 1 MiB");
  require(options.arena_bytes <= shm::largest_block, "pool_options::arena_bytes must be at most 64 KiB");
  require(options.cancel_grace >= milliseconds::zero(), "pool_options::cancel_grace must not be negative");
  require(options.cache_idle >= milliseconds::zero(), "pool_options::cache_idle must not be negative");
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

void check(const task_options& options) {
  require(options.timeout >= std::chrono::nanoseconds::zero(), "task_options::timeout must not be negative");
  require(!options.cancel_grace || *options.cancel_grace >= std::chrono::milliseconds::zero(),
          "task_options::cancel_grace must not be negative");
  require(options.attempts != 0, "task_options::attempts must be at least 1");
  require(options.attempts == 1 || options.idempotent,
          "task_options::attempts above 1 needs idempotent = true: the task may run more than once");
}

std::chrono::nanoseconds in_nanoseconds(std::chrono::milliseconds span) noexcept {
  return std::min<std::chrono::milliseconds>(span, std::chrono::years{100});
}

shm::store_options store_options_of(const pool_options& options) {
  shm::store_options result;
  result.backing = options.backing;
  result.max_bytes = options.max_shm_bytes;
  result.cache_bytes = options.cache_bytes.value_or(default_cache_bytes());
  result.cache_idle = options.cache_idle;
  result.dump = options.dump_arrays;
  result.arena_bytes = options.arena_bytes;
  return result;
}

sched::options scheduler_options_of(const pool_options& options) {
  sched::options result;
  result.max_workers = options.workers;
  result.min_workers = options.min_workers;
  result.max_tasks_per_worker = options.max_tasks_per_worker;
  result.window = options.window;
  result.cancel_grace = in_nanoseconds(options.cancel_grace);
  result.max_pending = options.max_pending;
  result.max_pending_bytes = options.max_pending_bytes;
  result.quarantine_after = options.quarantine_function_after;
  return result;
}

wire::worker_settings worker_settings_of(const pool_options& options) {
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

std::optional<std::chrono::seconds> cpu_limit_of(const pool_options& options) noexcept {
  std::uint64_t limit = RLIM_INFINITY;
  if (rlimit inherited{}; ::getrlimit(RLIMIT_CPU, &inherited) == 0) limit = inherited.rlim_cur;
  for (const auto& [resource, value] : options.rlimits) {
    if (resource == RLIMIT_CPU) limit = value;
  }
  if (limit == RLIM_INFINITY || limit == 0) return std::nullopt;
  return std::chrono::seconds(limit);
}

}  // namespace shmpool::pool
