#include "pool/worker_accounts.hpp"

#include "process/assert.hpp"

#include <csignal>

namespace shmpool::pool {

void worker_accounts::blame(const worker_life& dead, std::size_t begun, const task_entry* suspect,
                            time_point now) noexcept {
  SHMPOOL_ASSERT(!suspect || begun == 1);  // of several tasks, nobody knows which one killed it
  const bool by_itself = dead.exit_reason() == worker_exit::reason::died;
  if (suspect && by_itself && !dead.died_by_pool() && suspect->arrays.empty()) {
    killers_.killed(suspect->function, suspect->arguments, now);
  }
  if (!by_itself && dead.violation().empty()) return;  // it was told to leave, or was killed on purpose
  if (begun == 0 && dead.results() == 0 && !dead.is_unfit()) problems_.died_idle(dead);
}

void worker_accounts::close(const worker_life& dead) noexcept {
  worker_exit how;
  how.why = dead.exit_reason();
  how.tasks = dead.results();
  dead.describe_end(how);
  switch (how.why) {
    case worker_exit::reason::died: ++deaths_; break;
    case worker_exit::reason::killed: ++killed_; break;
    case worker_exit::reason::retired:
    case worker_exit::reason::idle: ++retired_; break;
  }
  if (on_worker_exit_) ledger_.notify(on_worker_exit_, how);
}

worker_lost::details worker_accounts::details_of(const worker_life& dead) const noexcept {
  worker_lost::details details;
  dead.describe_end(details);
  details.killed_because = dead.killed_because();
  const auto used = dead.cpu_time();
  details.cpu_time = std::chrono::duration_cast<std::chrono::milliseconds>(used);
  if (!cpu_limit_ || (details.signal != SIGXCPU && details.signal != SIGKILL)) return details;
  // The kernel counts ticks for the limit, and nanoseconds for the CPU time; hence the tolerance.
  if (used * 11 >= *cpu_limit_ * 10) details.cpu_limit = *cpu_limit_;
  return details;
}

void worker_accounts::count(pool_stats& stats) const noexcept {
  stats.workers_started = started_;
  stats.workers_retired = retired_;
  stats.workers_killed = killed_;
  stats.worker_deaths = deaths_;
}

}  // namespace shmpool::pool
