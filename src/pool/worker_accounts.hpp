// The accounts of a pool's workers: how many were started, how they ended, and whom a death is held against.
//
// Thread safety: none; the engine's lock guards it.
#pragma once

#include "pool/diagnosis.hpp"
#include "pool/killer_table.hpp"
#include "pool/task_ledger.hpp"
#include "pool/worker_life.hpp"
#include "process/clock.hpp"

#include <shmpool/callback.hpp>
#include <shmpool/error.hpp>
#include <shmpool/stats.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace shmpool::pool {

class worker_accounts {
 public:
  using time_point = monotonic_clock::time_point;

  /// `cpu_limit`: RLIMIT_CPU of workers, if they have one.
  worker_accounts(task_ledger& ledger, killer_table& killers, diagnosis& problems,
                  const callback<void(const worker_exit&)>& on_worker_exit,
                  std::optional<std::chrono::seconds> cpu_limit)
      : ledger_(ledger),
        killers_(killers),
        problems_(problems),
        on_worker_exit_(on_worker_exit),
        cpu_limit_(cpu_limit) {}

  /// The fork server was told to start a worker.
  void started() noexcept { ++started_; }
  /// It could not.
  void not_started() noexcept { --started_; }

  /// Holds a death against the call that caused it, or against the pool's set-up. `begun`: how many tasks the worker
  /// had begun whose results it has not sent; `suspect`: the task, if it is one and the pool still knows it.
  void blame(const worker_life& dead, std::size_t begun, const task_entry* suspect, time_point now) noexcept;
  /// Counts the end of a worker, and tells the user.
  void close(const worker_life& dead) noexcept;

  /// How a worker ended, as far as known, for the error of a task that it has lost.
  worker_lost::details details_of(const worker_life& dead) const noexcept;
  /// Fills in how many workers were started and how they ended.
  void count(pool_stats& stats) const noexcept;

 private:
  task_ledger& ledger_;
  killer_table& killers_;
  diagnosis& problems_;
  const callback<void(const worker_exit&)> on_worker_exit_;
  const std::optional<std::chrono::seconds> cpu_limit_;
  std::uint64_t started_ = 0, retired_ = 0, killed_ = 0, deaths_ = 0;
};

}  // namespace shmpool::pool
