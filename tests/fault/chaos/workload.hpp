// Many clients of one pool, each with one task of a random kind in flight; whatever becomes of a task is checked
// against what the contract says and against what was done to its worker.
//
// Thread safety: everything happens on the pool's strand; what() may be called by any thread.
#pragma once

#include "fault/chaos/killer.hpp"
#include "fault/chaos/ledger.hpp"
#include "fault/chaos/tasks.hpp"

#include <shmpool.hpp>

#include <asio.hpp>

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

namespace shmpool::chaos {

/// Ends the process: a promise was broken.
[[noreturn]] void end_with(const std::string& finding);

class workload {
 public:
  using strand = asio::strand<asio::io_context::executor_type>;

  workload(const strand& where, const pool_options& options, std::uint64_t seed, const kill_book& book,
           ledger& figures);
  workload(const workload&) = delete;
  workload& operator=(const workload&) = delete;

  void start(int clients);
  /// One task that nothing follows: a pool takes note of what has happened only while it has something to do.
  void touch();
  /// No new tasks from here. `how`: tasks may be aborted from here, too.
  void wind_down(bool aborting) noexcept;
  bool idle() const noexcept { return in_flight_ == 0; }
  /// Frees the array that is lent to many.
  void drop_arrays() { shared_ = {}; }
  std::size_t arrays_held() const noexcept { return shared_.empty() ? 0 : 1; }
  /// After the pool's end: nothing has run that was said not to run.
  void check_settled() const;
  /// All that is pending, a line each, and how long ago the last task completed.
  std::string pending() const;
  std::chrono::steady_clock::duration quiet() const;

  std::optional<process_pool> pool;

 private:
  struct operation {
    const char* kind = "";
    run_id first = 0;
    std::size_t count = 1;
    unsigned attempts = 1;
    bool may_abort = false;      ///< it was cancelled
    bool asked_to_stop = false;  ///< in a way that a running task sees
    bool may_expire = false;
    bool may_be_refused = false;
    bool chained = true;  ///< the next task follows it
    int crash = -1, refusal = -1;
    bool endless = false, many = false;
    int completions = 0;
    std::function<bool()> check_failed;  ///< what must hold although it failed
    asio::cancellation_signal cancel;
    std::chrono::steady_clock::time_point begin;
  };
  using operation_ptr = std::shared_ptr<operation>;

  operation_ptr begin(const char* kind, std::size_t count = 1);
  task_options perhaps_again(operation& op);
  void perhaps_cancel(const operation_ptr& op);
  void cancel_later(const operation_ptr& op, asio::cancellation_type kind, std::uint64_t microseconds);

  template <class Check>
  auto handler(const operation_ptr& op, Check check) {
    return asio::bind_cancellation_slot(
        op->cancel.slot(), [this, op, check = std::move(check)](std::exception_ptr error, auto&&... result) mutable {
          const bool right = error != nullptr || check(result...);
          ended(*op, error, right);
        });
  }
  void ended(operation& op, const std::exception_ptr& error, bool right);
  void check_value(const operation& op, bool right);
  void check_error(operation& op, const std::exception_ptr& error);
  void check_loss(const operation& op, const worker_lost& error);
  void check_thrown(const operation& op, const std::exception& error);
  [[noreturn]] void broken(const operation& op, const std::string& what) const;
  unsigned most_runs(const operation& op) const noexcept;

  void launch();
  void launch_mix();
  void launch_repeat();
  void launch_list();
  void launch_make();
  void launch_invert();
  void launch_invert_shared();
  void launch_increment();
  void launch_increment_halves();
  void launch_busy();
  void launch_take();
  void launch_take_copy();
  void launch_digest_of();
  void launch_rearrange();
  void launch_make_many();
  void launch_leave_thread();
  void launch_fork();
  void launch_keep();
  void launch_spin();
  void launch_heed();
  void launch_endless();
  void launch_report();
  void launch_refuse();
  void launch_crash();
  void launch_burst();
  void submit_crash(bool chained);
  void launch_map();
  void increment_part(const operation_ptr& op, words part, std::uint64_t seed);

  std::uint64_t dice(std::uint64_t sides) { return random_() % sides; }
  std::size_t size() { return dice(12) == 0 ? 400'000 : 100 + dice(20'000); }
  words make(std::size_t size, std::uint64_t seed);

  strand where_;
  std::mt19937_64 random_;
  const kill_book& book_;
  ledger& figures_;
  words shared_;
  std::uint64_t shared_seed_ = 0;
  bool running_ = true, aborting_ = false;
  int in_flight_ = 0;
  int bursts_left_ = 1;
  std::set<pid_t> lost_with_;                ///< workers that cost a task: none costs two
  std::set<pid_t> doomed_;                   ///< workers that the pool may have killed itself
  std::map<run_id, std::uint32_t> settled_;  ///< runs of the tasks that have ended

  mutable std::mutex pending_mutex_;
  std::map<run_id, operation*> pending_;
  std::chrono::steady_clock::time_point last_end_ = std::chrono::steady_clock::now();
};

}  // namespace shmpool::chaos
