// The workers of a pool: starts and kills them, learns of their ends from the fork server and from the kernel.
// Calls reply_handler to read their replies, and worker_accounts for the dead.
//
// Thread safety: none; the engine's lock guards it. No function runs the scheduler's actions: the caller does so
// afterwards.
#pragma once

#include "pool/diagnosis.hpp"
#include "pool/pool_loop.hpp"
#include "pool/reply_handler.hpp"
#include "pool/roster.hpp"
#include "pool/server_channel.hpp"
#include "pool/task_ledger.hpp"
#include "pool/worker_accounts.hpp"
#include "pool/worker_channel.hpp"
#include "process/clock.hpp"
#include "sched/scheduler.hpp"
#include "wire/server_protocol.hpp"

#include <shmpool/error.hpp>
#include <shmpool/options.hpp>
#include <shmpool/stats.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

namespace shmpool::pool {

class crew {
 public:
  using time_point = monotonic_clock::time_point;

  /// Settings that all workers of the pool share.
  struct orders {
    wire::worker_settings settings{};
    std::vector<std::byte> hello;
    std::vector<std::byte> lasting_hello;  ///< for workers that do not leave when they are idle
    bool leave_descendants = false;
    std::optional<std::chrono::seconds> cpu_limit;  ///< RLIMIT_CPU of workers
    callback<void(const worker_exit&)> on_worker_exit;
  };

  /// Connects to the fork server. Throws std::system_error.
  crew(orders what, std::unique_ptr<server_channel::source> servers, pool_loop& loop, sched::scheduler& scheduler,
       task_ledger& ledger, reply_handler& replies, killer_table& killers, diagnosis& problems);

  worker_channel* find(sched::worker_id id) noexcept;
  const worker_channel* find(sched::worker_id id) const noexcept;
  /// Calls `visit` with every worker whose end is not accounted for.
  template <class Visitor>
  void each(Visitor visit) const {
    for (const auto& [id, channel] : channels_) {
      if (!channel->life.is_ended()) visit(*channel);
    }
  }
  std::size_t running_tasks() const noexcept;

  // ---- Actions of the scheduler.

  void start(sched::worker_id id, bool lasting, time_point now);
  void retire(worker_channel& worker);
  /// Kills the worker because of its current task, or because it was told to leave and did not.
  void kill_for_task(worker_channel& worker, time_point now);
  /// Takes all tasks from a worker that is dead or given up, and returns those that it had started. The worker never
  /// starts the others.
  std::vector<sched::task_id> reclaim_tasks(worker_channel& worker);

  // ---- Incoming events.

  /// True if the operation belongs to the fork server's socket; then processes its completion.
  bool server_reaped(const loop::operation& op, time_point now);
  /// Processes the completion of a worker's operation.
  void reaped(worker_channel& worker, const loop::operation& op, time_point now);
  /// Reads the rings of the workers that have rung the bell. True if there were replies.
  bool hear(time_point now);
  /// Reads the rings of all polled workers. True if there were replies.
  bool look(time_point now);
  /// Tells the workers that nobody looks by himself from now on, then reads the rings once more. True if there were
  /// replies.
  bool end_polling(time_point now);
  /// Sends all queued frames. `polled`: the rings of busy workers are looked at from now on; `spin`: how long an idle
  /// worker may poll for frames.
  void send(bool polled, std::chrono::nanoseconds spin, time_point now);
  /// An idle worker has been given a task.
  void now_busy(worker_channel& worker, time_point now);

  // ---- Time.

  /// When tick() has something to do; may be early, never late.
  time_point due() const noexcept;
  /// Retries failed transfers, accounts for dead workers, and looks for workers that do not begin their tasks.
  void tick(time_point now);
  /// Forgets workers that are accounted for and have no pending operation.
  void sweep();

  // ---- The end.

  /// Breaks the pool for good; the first reason counts.
  void break_pool(detail::breakage why, time_point now) noexcept;
  /// All workers have left: the pool no longer needs the fork server.
  void stop_watching() {
    server_.stop_watching();
    is_drained_ = true;
  }
  /// Kills all workers and waits until they are dead, or until `deadline`. `why` is a literal.
  void end_all(const char* why, time_point deadline) noexcept;
  /// The loop is lost and reports no ends of workers: waits for them here and accounts for them.
  void end_without_loop(time_point deadline, time_point now);
  /// Forgets all workers. If the kernel may still write into their buffers, these live as long as the loop.
  void forget_all();

  /// How a worker ended, as far as known.
  worker_lost::details end_of(const worker_channel& worker) const noexcept { return accounts_.details_of(worker.life); }
  /// Fills in how many workers were started and how they ended.
  void count(pool_stats& stats) const noexcept;

 private:
  void kill(worker_channel& worker, worker_life::killer how, time_point now);
  /// Kills the worker if reply_handler has condemned it.
  void execute_sentence(worker_channel& worker, time_point now);
  void received(worker_channel& from, time_point now);
  /// Reads the worker's ring. True if there were replies.
  bool look_at(worker_channel& from, time_point now);
  /// After any event of the worker that may have made its due() earlier.
  void note_due(worker_channel& worker) noexcept {
    if (!worker.is_noted()) roster_.note_due(worker);
  }
  void process_watched(worker_channel& worker, time_point now);
  void take_reports(time_point now);
  void take_report(server_channel::report& heard, time_point now);
  void start_failed(worker_channel& worker, std::string why, time_point now);
  void server_lost(time_point now);
  /// Accounts for dead workers: at once if the fork server has reported the wait status, else when its time for that is
  /// over.
  void check_exits(time_point now);
  void check_exit(worker_channel& worker, time_point now);
  void check_unstarted(worker_channel& worker, time_point now);
  /// Returns the failure if transfers have failed for too long.
  std::string retry_transfers(worker_channel& worker, time_point now);
  void bury(worker_channel& worker, time_point now);
  void meet_last_workers(time_point deadline);
  bool server_wanted() const noexcept { return !scheduler_.broken() && !is_drained_; }

  const orders orders_;
  pool_loop& loop_;
  sched::scheduler& scheduler_;
  task_ledger& ledger_;
  reply_handler& replies_;
  diagnosis& problems_;
  worker_accounts accounts_;
  server_channel server_;
  std::unordered_map<sched::worker_id, std::unique_ptr<worker_channel>> channels_;
  roster roster_;
  std::size_t over_ = 0;  // channels that are accounted for and not forgotten yet
  // As the busy workers were told last.
  bool told_polled_ = false;
  std::chrono::nanoseconds told_spin_{};
  bool is_drained_ = false;
};

}  // namespace shmpool::pool
