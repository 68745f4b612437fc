// The engine of one pool: owns the scheduler, the store, the loop's queue and the links to the workers, and turns what
// the scheduler decides into frames, forks and kills. Sources: engine.cpp (the calls from above), engine_submit.cpp
// (how tasks come in), engine_actions.cpp (what the scheduler wants done), engine_events.cpp (what the loop and the
// workers report), engine_polling.cpp (the same without the kernel), engine_processes.cpp (the worker processes),
// engine_failures.cpp (what it does when the kernel refuses it something).
//
// Thread safety: public members may be called from any thread; one mutex guards everything below.
#pragma once

#include "loop/completion_queue.hpp"
#include "pool/breakage.hpp"
#include "pool/function_table.hpp"
#include "pool/killer_table.hpp"
#include "pool/surroundings.hpp"
#include "pool/worker_channel.hpp"
#include "process/clock.hpp"
#include "process/fork_mark.hpp"
#include "process/spin_budget.hpp"
#include "sched/scheduler.hpp"
#include "shm/store.hpp"
#include "wire/frame.hpp"
#include "wire/server_protocol.hpp"

#include <shmpool/detail/engine.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace shmpool::pool {

using detail::access;
using detail::attachment;
using detail::breakage;
using detail::callable_ref;
using detail::cancel_kind;
using detail::completion_list;
using detail::engine;
using detail::flush_hint;
using detail::notice;
using detail::operation;
using detail::outcome;
using detail::segment_source;

class pool_engine final : public engine, sched::claims {
 public:
  explicit pool_engine(const pool_options& options);
  ~pool_engine() override;

  bool inert() const noexcept override { return made_here_.inherited(); }
  int descriptor() const noexcept override { return queue_->descriptor(); }
  bool active() const noexcept override;
  segment_source& memory() noexcept override { return *store_; }
  std::size_t inline_limit() const noexcept override { return options_.inline_bytes; }

  bool holds() const noexcept override;
  flush_hint hold(operation& op, std::uint64_t& place) override;
  flush_hint withdraw(std::uint64_t place, std::uint64_t cancel_key) noexcept override;
  flush_hint submit(operation& op, const callable_ref& fn, std::vector<std::byte> arguments,
                    std::vector<attachment> attachments, const task_options& options, std::uint64_t place) override;
  flush_hint cancel(std::uint64_t cancel_key, cancel_kind kind) override;
  flush_hint shutdown(operation& op) override;
  void stop() noexcept override;
  void close() noexcept override;
  void flush() override;
  void drain() override;
  bool polling() const noexcept override { return polling_.load(std::memory_order_acquire) && !inert(); }
  bool poll() override;
  void stop_polling() override;
  std::chrono::milliseconds retry_after() const noexcept override;
  completion_list take_completed(std::vector<notice>& notices) noexcept override;
  clear_result clear_shm() override;
  pool_stats stats() const override;
  unsigned max_workers() const noexcept override { return options_.workers; }

 private:
  using clock = monotonic_clock;

  static constexpr const char* no_memory = "the application had no memory left (new threw std::bad_alloc)";

  /// One submitted task, from submit() until it has ended.
  struct task {
    operation* op = nullptr;
    sched::task_id id = 0;
    std::uint32_t function = 0;
    std::vector<std::byte> arguments;
    std::vector<attachment> attachments;  // lent to the task: held and registered until it ends
    std::vector<shm_handle> leases;       // for its results, while a worker has it
    worker_channel* on = nullptr;         // the worker that has it
    std::uint16_t slot = 0;
    clock::time_point assigned;
    clock::time_point seen_started = clock::time_point::max();  // when it was first seen to have begun
  };

  /// Hears which segments were freed, so that workers can be told to unmap them.
  class unmap_list;

  // ---- engine_submit.cpp
  task& new_task(operation& op);
  /// Runs the scheduler's event that makes `made` known to it and returns its id; false if it is refused (an id of 0),
  /// and `made` is given back. So it is if that throws.
  template <class Event>
  bool enter(task& made, std::uint64_t place, Event event);
  std::string bound_reached() const;
  /// Throws errc::quarantined for a function, or a call, that has killed too often.
  void check_quarantine(std::uint32_t function, std::span<const std::byte> arguments, bool with_arrays,
                        clock::time_point now);
  /// Throws pool_broken, when it has given the lock up.
  [[noreturn]] void refuse_broken(std::unique_lock<std::mutex> lock);
  flush_hint react();

  // ---- sched::claims
  bool take_back(sched::worker_id worker, sched::task_id id) noexcept override;
  std::optional<sched::time_point> started(sched::worker_id worker, sched::task_id id) noexcept override;

  // ---- engine_actions.cpp
  void run_actions(clock::time_point now);
  void admit(task& what, sched::task_id id);
  void assign(worker_channel& to, task& what, clock::time_point now);
  void lease_for(worker_channel& to, task& what, std::vector<wire::segment_ref>& refs);
  void lacks_memory(worker_channel& at, task& what, clock::time_point now);
  void introduce_function(worker_channel& to, std::uint32_t function);
  wire::segment_ref reference(worker_channel& to, const attachment& what);
  void unassign(task& what) noexcept;
  /// Takes all tasks off a worker that is dead or given up, and says which of them it had started. It never starts the
  /// others.
  std::vector<sched::task_id> strip(worker_channel& which);
  void fail(task& what, const sched::action& how);
  /// Says in an outcome why there is no result.
  void note_failure(outcome& of, const sched::action& how);
  void note_loss(outcome& of, const sched::action& how) const;
  /// Why there is nobody to run tasks, and what is done about it.
  std::shared_ptr<const breakage> why_broken() const;
  void finish(task& what);
  void tell_unmapped();
  void submit_to_loop();
  /// Submits and reaps until there is nothing to reap, within bounds: what is left then makes the descriptor readable.
  void cycle(clock::time_point now);
  /// True if it has begun to wait for the timer: the loop has to be told. The first looks at every link, as is needed
  /// after anything was heard of one.
  bool arm_timer_for_links();
  bool arm_timer();
  void finish_shutdown();
  worker_channel* find(sched::worker_id id) noexcept;

  // ---- engine_events.cpp
  bool reap(clock::time_point now);  // true if there was anything
  void on_process_watched(worker_channel& of, clock::time_point now);
  void on_time(clock::time_point now);
  void on_received(worker_channel& from, clock::time_point now);
  void take_in(worker_channel& from, clock::time_point now);
  bool take_from_ring(worker_channel& from, clock::time_point now);  // true if there was anything
  bool read_frames(worker_channel& from, clock::time_point now);
  bool on_frame(worker_channel& from, const wire::frame& in, clock::time_point now);
  bool on_result(worker_channel& from, const wire::frame& in, clock::time_point now);
  /// A result as it is taken in.
  struct intake {
    outcome result;
    std::vector<std::size_t> used;  // sizes of the leases in it
    std::exception_ptr lack;        // of what it takes to take it in
  };
  /// False if it makes no sense. Throws std::bad_alloc.
  bool take_result(worker_channel& from, task& which, const wire::frame& in, intake& to);
  bool may_ask(const worker_channel& from, std::uint64_t handover, task*& which);
  bool on_need(worker_channel& from, const wire::frame& in);
  bool on_open(worker_channel& from, const wire::frame& in);
  /// Says no to a worker that waits for an answer.
  static void refuse(worker_channel& to, std::uint64_t task, std::string_view why);
  /// The segment as the worker has it, for this task (null: for its initializer) or kept; no handle if it was not given
  /// it.
  static worker_channel::kept_segment given(const worker_channel& to, const task* of, std::uint64_t segment);
  bool on_account(worker_channel& from, task* of, const wire::frame& in);
  void violated(worker_channel& from, const char* what, clock::time_point now);
  void break_pool(breakage why, clock::time_point now) noexcept;

  // ---- engine_polling.cpp
  /// Decides whether rings are polled from here on.
  void plan_polling(clock::time_point now);
  void collect_polled();
  bool look_at_polled(clock::time_point now);
  bool look(clock::time_point now);
  bool end_polling(clock::time_point now);  // true if there was something yet
  std::chrono::nanoseconds spin_time() const noexcept;

  // ---- engine_failures.cpp
  /// Runs what must not stop half-way: an exception (memory has run out, say) breaks the pool and goes to all its
  /// tasks.
  template <class Body>
  void guarded(Body body) noexcept {
    try {
      body();
    } catch (...) {
      collapse(std::current_exception());
    }
  }
  void collapse(const std::exception_ptr& cause) noexcept;
  /// The queue has kept what the kernel would not take: it is tried again, and in the end given up.
  void loop_refused(const std::error_code& error);
  /// Gives it up if it has refused for too long.
  void heed_refusal(clock::time_point now);
  void retry_transfers(clock::time_point now);
  void connect_server(clock::time_point now);
  /// After a failure to read from it: whether to go on trying.
  bool server_may_recover(clock::time_point now);

  // ---- engine_processes.cpp
  void start_worker(sched::worker_id id, bool lasting);
  std::uint32_t free_place() const;
  void start_failed(worker_channel& which, std::string why, clock::time_point now);
  /// `why` is a literal, for whoever loses a task by it.
  void kill(worker_channel& which, const char* why) noexcept;
  /// How it ended, as far as it is known.
  worker_lost::details end_of(const worker_channel& which) const;
  /// Sends to the fork server what has been waiting, as far as its socket takes it.
  void send_to_server();
  void on_server_readable(clock::time_point now);
  void on_server_message(const wire::server_message& message, unique_fd descriptor, clock::time_point now);
  void on_server_lost(clock::time_point now);
  void watch_server();
  /// Takes in the workers that the fork server is starting at the end of the pool, so that their death can be waited
  /// for.
  void meet_last_workers(clock::time_point deadline) noexcept;
  void check_exits(clock::time_point now);
  void check_unstarted(clock::time_point now);
  void exited(worker_channel& which, clock::time_point now);
  /// Notes how a worker has ended that nobody had asked to, while it ran `started` or before it had a task.
  void note_death(const worker_channel& which, const std::vector<sched::task_id>& started, clock::time_point now);
  /// Counts a worker that is gone, and tells whoever asked to be told.
  void account(const worker_channel& which);

  pool_options options_;
  fork_mark made_here_;  // a forked copy is inert
  mutable std::mutex mutex_;
  std::shared_ptr<shm::store> store_;
  std::shared_ptr<unmap_list> unmapped_;
  // Of a ring that failed: it may write into their buffers until it is closed.
  std::vector<std::unique_ptr<worker_channel>> outlast_loop_;
  std::unique_ptr<loop::completion_queue> queue_;
  std::optional<sched::scheduler> scheduler_;
  function_table functions_;
  killer_table killers_;
  wire::worker_settings settings_{};
  std::vector<std::byte> hello_, lasting_hello_;  // the latter for workers that do not leave when they are idle
  bool has_initializer_ = false;

  const pool::surroundings surroundings_;  // of workers: those of now
  unique_fd server_;                       // this pool's socket to the fork server
  loop::operation server_watch_;
  unique_fd timer_;
  loop::operation timer_watch_;
  clock::time_point timer_due_ = clock::time_point::max();
  clock::time_point links_due_ = clock::time_point::max();  // when to look at one of them, at the earliest
  std::deque<wire::spawn_message> unsent_;                  // the fork server's socket was full
  loop::operation server_send_;

  std::unordered_map<sched::worker_id, std::unique_ptr<worker_channel>> links_;
  std::vector<std::unique_ptr<task>> task_pool_;  // owns all records
  std::vector<task*> spare_tasks_;
  std::unordered_map<std::uint64_t, sched::task_id> cancel_keys_;

  // The one that hold() is about: if it is admitted at once, it is not completed for that.
  operation* held_now_ = nullptr;

  const std::exception_ptr no_memory_;  // made in time
  completion_list completed_;
  completion_list shutdown_waiters_;
  std::vector<notice> notices_;
  bool closing_ = false;                            // shutdown() or stop() was called
  bool drained_ = false;                            // and all workers are gone
  bool closed_ = false;                             // close() was called
  std::optional<clock::time_point> refused_since_;  // the loop has something that the kernel would not take
  std::error_code refusal_;
  bool loop_lost_ = false;                       // it never did: nothing can be waited for any more
  std::optional<clock::time_point> server_due_;  // when to try again to start the fork server
  std::optional<clock::time_point> server_failing_since_;
  unsigned server_attempts_ = 0;  // since it was heard of last
  const unsigned cpus_ = default_worker_count();
  std::atomic<bool> polling_{false};  // somebody is going to call poll(); written under the lock
  clock::time_point poll_until_{};
  bool spinning_ = false;    // also while there is nothing else to do
  bool poll_found_ = false;  // since it began
  spin_budget spin_;
  std::vector<worker_channel*> polled_;
  bool drain_wanted_ = false;  // whatever the kernel has to report
  bool idle_output_ = false;   // an idle worker has been given something that is not sent yet
  // One time for all submits until the pool's next turn of the loop, when what they assign is sent together: to read
  // the clock for each would be a good part of what a task costs.
  std::optional<clock::time_point> submit_time_;
  // Filled when the pool is broken or when that is told first, and not changed after that. Made before: memory may have
  // run out.
  const std::shared_ptr<breakage> broken_ = std::make_shared<breakage>();
  std::string start_failure_;
  // Why the last worker that had not come to a task did not: how it died, or what it said and threw.
  std::string last_death_;
  breakage last_problem_;
  std::uint64_t submitted_ = 0, succeeded_ = 0;
  failure_counts failures_;
  std::uint64_t workers_started_ = 0, workers_retired_ = 0, workers_killed_ = 0, worker_deaths_ = 0;
};

}  // namespace shmpool::pool
