// The workers of a pool: starts and kills them, hears of their ends from the fork server and from the kernel, and
// accounts for those that are dead. What they say is read by reply_handler, whom it asks for that.
//
// Thread safety: none; the engine's lock guards it. None of its functions runs the scheduler's actions: whoever calls
// one does so afterwards.
#pragma once

#include "pool/diagnosis.hpp"
#include "pool/killer_table.hpp"
#include "pool/pool_loop.hpp"
#include "pool/reply_handler.hpp"
#include "pool/server_channel.hpp"
#include "pool/task_ledger.hpp"
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

  /// What every worker of the pool is told.
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

  // ---- What the scheduler wants.

  void start(sched::worker_id id, bool lasting, time_point now);
  void retire(worker_channel& which);
  /// For the task that it is at, or as it was to leave and did not.
  void kill_for_task(worker_channel& which, time_point now);
  /// Takes all tasks off a worker that is dead or given up, and says which of them it had started. It never starts the
  /// others.
  std::vector<sched::task_id> reclaim_tasks(worker_channel& which);

  // ---- What is heard.

  /// Whether the operation is of the fork server's socket; takes note of its end.
  bool server_reaped(const loop::operation& op, time_point now);
  /// An operation of a worker's has ended.
  void reaped(worker_channel& which, const loop::operation& op, time_point now);
  /// Takes in what the rings of all workers have that may keep their replies there. True if there was anything.
  bool look(time_point now);
  /// Workers send their replies from here on; then looks once more.
  bool end_polling(time_point now);
  /// Sends what there is to be sent. `polled`: workers may leave replies in their rings; `spin`: how long they may wait
  /// for more with nothing else to do.
  void send(bool polled, std::chrono::nanoseconds spin);
  /// A worker that was idle has been given something.
  void now_busy(worker_channel& which, time_point now);

  // ---- Time.

  /// When tick() has something to do. The first looks at every worker, as is needed after anything was heard of one;
  /// the second may be late for those that were heard of since.
  time_point next_due() noexcept;
  time_point due() const noexcept { return due_; }
  /// Tries again what has failed, accounts for the dead, and looks for workers that do not begin what they have.
  void tick(time_point now);
  /// Forgets those that are accounted for and have no operation under way.
  void sweep();

  // ---- The end.

  /// The pool is broken for good; the first reason counts.
  void break_pool(detail::breakage why, time_point now) noexcept;
  /// All workers have left: the fork server is of no interest any more.
  void stop_watching() {
    server_.stop_watching();
    is_drained_ = true;
  }
  /// Kills all workers and waits until they are dead, or until `deadline`. `why` is a literal.
  void end_all(const char* why, time_point deadline) noexcept;
  /// The loop is lost, so nobody can wait for ends of workers: sees to it here.
  void end_without_loop(time_point deadline, time_point now);
  /// Forgets all. Where the kernel may yet write into their buffers, they live as long as the loop.
  void forget_all();

  /// How a worker ended, as far as it is known.
  worker_lost::details end_of(const worker_channel& which) const noexcept;
  /// Fills in how many workers were started and how they ended.
  void count(pool_stats& stats) const noexcept;

 private:
  std::uint32_t free_place() const;
  void kill(worker_channel& which, worker_life::killer how, time_point now);
  /// Kills it if what it said was no good.
  void execute_sentence(worker_channel& which, time_point now);
  void received(worker_channel& from, time_point now);
  void process_watched(worker_channel& of, time_point now);
  void take_reports(time_point now);
  void take_report(server_channel::report& heard, time_point now);
  void start_failed(worker_channel& which, std::string why, time_point now);
  void server_lost(time_point now);
  /// Accounts for workers that are dead: at once if the fork server has said how, or else when it has been given time
  /// to.
  void check_exits(time_point now);
  void check_unstarted(time_point now);
  void retry_transfers(time_point now);
  void bury(worker_channel& which, time_point now);
  void note_death(const worker_channel& which, const std::vector<sched::task_id>& started, time_point now) noexcept;
  void account(const worker_channel& which) noexcept;
  void meet_last_workers(time_point deadline);
  bool server_wanted() const noexcept { return !scheduler_.broken() && !is_drained_; }

  const orders orders_;
  pool_loop& loop_;
  sched::scheduler& scheduler_;
  task_ledger& ledger_;
  reply_handler& replies_;
  killer_table& killers_;
  diagnosis& problems_;
  server_channel server_;
  std::unordered_map<sched::worker_id, std::unique_ptr<worker_channel>> channels_;
  time_point due_ = time_point::max();
  bool is_drained_ = false;
  std::uint64_t started_ = 0, retired_ = 0, killed_ = 0, deaths_ = 0;
};

}  // namespace shmpool::pool
