// The engine of one pool: its lock, its phase, and the order in which its parts are called. Tasks enter task_ledger and
// the scheduler, crew and segment_courier carry out the scheduler's actions, and reply_handler processes the workers'
// replies.
//
// Thread safety: public members may be called from any thread; one mutex guards everything below.
#pragma once

#include "pool/crew.hpp"
#include "pool/diagnosis.hpp"
#include "pool/function_table.hpp"
#include "pool/killer_table.hpp"
#include "pool/pool_loop.hpp"
#include "pool/reply_handler.hpp"
#include "pool/ring_poller.hpp"
#include "pool/segment_courier.hpp"
#include "pool/slot_claims.hpp"
#include "pool/task_ledger.hpp"
#include "process/clock.hpp"
#include "process/fork_mark.hpp"
#include "process/mutex.hpp"
#include "sched/scheduler.hpp"

#include <shmpool/detail/engine.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <vector>

namespace shmpool::pool {

class pool_engine final : public detail::engine {
 public:
  using clock = monotonic_clock;
  using flush_hint = detail::flush_hint;
  using operation = detail::operation;

  /// See detail::make_engine().
  explicit pool_engine(const pool_options& options);
  ~pool_engine() override;

  bool inert() const noexcept override { return made_here_.inherited(); }
  int descriptor() const noexcept override SHMPOOL_NO_THREAD_SAFETY_ANALYSIS {
    return loop_.descriptor();  // which does not change
  }
  bool active() const noexcept override;
  detail::segment_source& memory() noexcept override { return courier_.store(); }
  std::size_t inline_limit() const noexcept override { return options_.inline_bytes; }

  bool has_admission_limit() const noexcept override;
  flush_hint acquire(operation& op, std::uint64_t& permit) override;
  flush_hint release(std::uint64_t permit, std::uint64_t cancel_key) noexcept override;
  flush_hint submit(operation& op, const detail::callable_ref& fn, std::vector<std::byte>&& arguments,
                    std::vector<detail::attachment>&& attachments, const task_options& options,
                    std::uint64_t permit) override;
  flush_hint cancel(std::uint64_t cancel_key, detail::cancel_kind kind) override;
  flush_hint shutdown(operation& op) override;
  void stop() noexcept override;
  void close() noexcept override;
  bool flush() override;
  void drain() override;
  bool polling() const noexcept override { return poller_.polling() && !inert(); }
  bool poll() override;
  void stop_polling() override;
  std::chrono::milliseconds retry_after() const noexcept override;
  detail::completion_list take_completed(std::vector<detail::notice>& notices) noexcept override;
  clear_result clear_shm() override;
  pool_stats stats() const override;
  unsigned max_workers() const noexcept override { return options_.workers; }

 private:
  enum class phase : std::uint8_t {
    open,
    closing,  ///< shutdown() or stop() was called: no more submits
    drained,  ///< and all workers are gone
    closed,   ///< close() was called: calls have no effect any more
  };

  // ---- Tasks (pool_engine_tasks.cpp).

  /// Runs `event`, which makes `made` known to the scheduler. False if the scheduler refuses the task. Gives `made`
  /// back if the task is refused, or if `event` throws before the scheduler has it.
  template <class Event>
  bool enter(task_entry& task, std::uint64_t permit, Event event) SHMPOOL_REQUIRES(mutex_);
  /// Throws errc::quarantined for a function, or a call, that has killed too often.
  void check_quarantine(std::uint32_t function, std::span<const std::byte> arguments, bool with_arrays,
                        clock::time_point now) const SHMPOOL_REQUIRES(mutex_);
  std::string bound_reached() const SHMPOOL_REQUIRES(mutex_);
  /// Carries out the actions that a call from above has caused.
  flush_hint react() SHMPOOL_REQUIRES(mutex_);
  void run_actions(clock::time_point now) SHMPOOL_REQUIRES(mutex_);
  void admit(task_entry& task, sched::task_id id) SHMPOOL_REQUIRES(mutex_);
  void assign(worker_channel& to, task_entry& task, clock::time_point now) SHMPOOL_REQUIRES(mutex_);
  void fail(task_entry& task, const sched::action& how) SHMPOOL_REQUIRES(mutex_);
  void finish_shutdown() SHMPOOL_REQUIRES(mutex_);

  // ---- The turn of the loop (pool_engine.cpp).

  void submit_to_loop(clock::time_point now) SHMPOOL_REQUIRES(mutex_);
  /// Submits and reaps until there is nothing to reap, a bounded number of times: remaining completions make the
  /// descriptor readable.
  void cycle(clock::time_point now) SHMPOOL_REQUIRES(mutex_);
  bool reap(clock::time_point now) SHMPOOL_REQUIRES(mutex_);  // true if there was anything
  void on_time(clock::time_point now) SHMPOOL_REQUIRES(mutex_);
  bool look(clock::time_point now) SHMPOOL_REQUIRES(mutex_);
  bool end_polling(clock::time_point now) SHMPOOL_REQUIRES(mutex_);
  /// True if the pool has started an operation that waits for the timer: the loop has to submit it.
  bool arm_timer(clock::time_point workers_due) SHMPOOL_REQUIRES(mutex_);
  std::chrono::nanoseconds spin_time() const noexcept SHMPOOL_REQUIRES(mutex_);
  void give_up_if_refused(clock::time_point now) SHMPOOL_REQUIRES(mutex_);
  /// Runs a body that must not stop half-way: an exception (for example, std::bad_alloc) breaks the pool and goes to
  /// all its tasks.
  template <class Body>
  void or_break(Body body) noexcept SHMPOOL_REQUIRES(mutex_) {
    try {
      body();
    } catch (...) {
      break_on_exception(std::current_exception());
    }
  }
  void break_on_exception(const std::exception_ptr& cause) noexcept SHMPOOL_REQUIRES(mutex_);

  const pool_options options_;
  fork_mark made_here_;  // a forked copy is inert
  mutable mutex mutex_;
  phase phase_ SHMPOOL_GUARDED_BY(mutex_) = phase::open;
  pool_loop loop_ SHMPOOL_GUARDED_BY(mutex_);
  task_ledger ledger_ SHMPOOL_GUARDED_BY(mutex_);
  diagnosis problems_ SHMPOOL_GUARDED_BY(mutex_);
  function_table functions_ SHMPOOL_GUARDED_BY(mutex_);
  killer_table killers_ SHMPOOL_GUARDED_BY(mutex_);
  segment_courier courier_;
  slot_claims claims_;
  sched::scheduler scheduler_ SHMPOOL_GUARDED_BY(mutex_);
  reply_handler replies_ SHMPOOL_GUARDED_BY(mutex_);
  crew crew_ SHMPOOL_GUARDED_BY(mutex_);
  ring_poller poller_;
  detail::completion_list shutdown_waiters_ SHMPOOL_GUARDED_BY(mutex_);
  /// The operation of the current acquire(): if it is admitted at once, it is not completed as well.
  operation* held_now_ SHMPOOL_GUARDED_BY(mutex_) = nullptr;
  bool idle_output_ SHMPOOL_GUARDED_BY(mutex_) = false;  // frames for an idle worker are queued
  // One time for all submits until the pool's next turn of the loop, which sends their frames together: to read the
  // clock for each submit would be a good part of a task's cost.
  std::optional<clock::time_point> submit_time_ SHMPOOL_GUARDED_BY(mutex_);
};

}  // namespace shmpool::pool
