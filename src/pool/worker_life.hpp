// The state of one worker as the application knows it, from the request for it until its end is accounted for: the
// reports of the fork server, the worker and the kernel, the decisions about it, and the conclusions from both.
//
// Decides only: it does no I/O, and the time is an argument. Thread safety: none; the engine's lock guards it.
#pragma once

#include "process/clock.hpp"

#include <shmpool/error.hpp>
#include <shmpool/options.hpp>

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace shmpool::pool {

class worker_life {
 public:
  using time_point = monotonic_clock::time_point;

  /// How far it has come.
  enum class stage : std::uint8_t {
    asked,    ///< requested; frames for it may be sent already
    alive,    ///< its process exists
    leaving,  ///< it was told to leave, was killed, or is useless: it will end
    ended,    ///< its end is accounted for
  };

  /// How its process is killed.
  enum class killer : std::uint8_t {
    nobody,  ///< its end is accounted for
    signal,  ///< by a signal to its process
    server,  ///< by the fork server: the parent has no pidfd for it yet, or the kernel forbade the signal
  };

  /// What happens to the worker when its fork server has died.
  enum class orphaned : std::uint8_t {
    wanted,  ///< no server knew of it: the next server starts it
    killed,  ///< its process dies with the server, and is killed to make sure
    over,    ///< its process does not exist, or the parent will never learn of it
  };

  /// How long the fork server may take to report the wait status of a worker after its process has ended.
  static constexpr std::chrono::milliseconds status_patience{200};

  // ---- Reports about the worker.

  /// A server has been told to start it.
  void told_to_server() noexcept;
  /// The server has started it, and the parent can wait for its end.
  void spawned(pid_t process) noexcept;
  /// The server could not start it, or could not be asked to. No more reports follow: the caller accounts for it at
  /// once.
  void spawn_failed() noexcept { stage_ = stage::ended; }
  /// The kernel reports that its process has ended. The server, if it is alive, reports the wait status.
  void process_ended(time_point now) noexcept;
  /// The server reports how it ended.
  void exit_status(int wait_status, std::uint64_t max_rss_bytes, std::chrono::microseconds cpu_time) noexcept;
  /// The server has died. Unless the worker is still `wanted`, its wait status will never be reported.
  orphaned server_lost() noexcept;
  /// There will be no server any more: a worker without a process will never get one.
  void no_server() noexcept;
  /// The worker reports its pid. The server's report, which may come later, replaces it.
  void told_pid(std::uint64_t number) noexcept;
  /// It is set up and has run the initializer.
  void ready() noexcept { ready_ = true; }
  /// It has reported that it cannot be set up, and ends.
  void unfit() noexcept;
  /// It has sent the result of a task.
  void replied() noexcept { ++results_; }

  // ---- Decisions about the worker.

  /// It ends after the tasks that it has begun; `retired`: it was told to leave; `idle`: it leaves by itself.
  void may_leave(worker_exit::reason why) noexcept;
  /// The scheduler kills it: because of its current task, or because it should have left and did not.
  killer kill_for_task(const char* why) noexcept;
  /// It is useless to the pool; its end counts as a kill by the pool.
  killer kill_as_useless(const char* why) noexcept;
  /// It is killed, or dies anyway; its exit_reason() does not change. `why` is a literal for the error of a task that
  /// is lost with it; null if there is nothing to say.
  killer kill(const char* why) noexcept;
  /// The kernel does not let this process signal it: how to kill it instead.
  killer signal_refused() const noexcept { return killer::server; }
  /// It has sent nonsense. It is killed, and its stream is read no further.
  killer violated(const char* what);
  /// Its end is accounted for.
  void accounted() noexcept { stage_ = stage::ended; }

  // ---- Conclusions.

  stage now() const noexcept { return stage_; }
  bool is_ended() const noexcept { return stage_ == stage::ended; }
  bool is_ready() const noexcept { return ready_; }
  bool is_unfit() const noexcept { return unfit_; }
  /// True if a server has yet to be told of it.
  bool is_untold() const noexcept { return process_ == process::untold; }
  /// True if the parent has to wait for the end of its process.
  bool awaits_end() const noexcept { return process_ == process::there; }
  /// True if it can be accounted for: the server has reported its wait status, or it has ended and no report is
  /// expected any more. Call status_overdue() at due() first.
  bool end_is_known() const noexcept {
    return wait_status_.has_value() || (process_ == process::ended && !status_due_);
  }
  /// Stops waiting for the server's report if its time is over.
  void status_overdue(time_point now) noexcept {
    if (status_due_ && now >= *status_due_) status_due_.reset();
  }
  /// When status_overdue() has something to do; the end of time if never.
  time_point due() const noexcept { return status_due_ && !wait_status_ ? *status_due_ : time_point::max(); }

  pid_t pid() const noexcept { return pid_; }
  std::uint64_t results() const noexcept { return results_; }
  std::chrono::microseconds cpu_time() const noexcept { return cpu_time_; }
  const char* killed_because() const noexcept { return killed_because_; }
  worker_exit::reason exit_reason() const noexcept { return exit_reason_; }
  /// Why its stream was given up; empty if it was not.
  const std::string& violation() const noexcept { return violation_; }
  bool was_asked_to_leave() const noexcept {
    return exit_reason_ == worker_exit::reason::retired || exit_reason_ == worker_exit::reason::idle;
  }
  /// True if the pool, or the end of the fork server, killed it: its death says nothing about its task.
  bool died_by_pool() const noexcept;
  /// How it ended, in words: "killed by signal 11".
  std::string describe_death() const;
  /// Fills in the members that worker_lost::details and worker_exit have in common.
  template <class Description>
  void describe_end(Description& to) const noexcept;

 private:
  enum class process : std::uint8_t {
    untold,  ///< no server knows of it
    asked,   ///< a server was told to start it, and has not answered
    there,
    ended,  ///< or it never existed
  };

  /// For describe_end(), without the macros of <sys/wait.h> in this header.
  int signal() const noexcept;
  int exit_code() const noexcept;

  stage stage_ = stage::asked;
  process process_ = process::untold;
  bool seen_ = false;         // the server has reported its process
  bool server_gone_ = false;  // the server that knew of it is dead: its wait status will not be reported
  bool ready_ = false, unfit_ = false;
  worker_exit::reason exit_reason_ = worker_exit::reason::died;
  pid_t pid_ = 0;  // for messages only: processes are told apart by pidfd
  std::optional<int> wait_status_;
  std::optional<time_point> status_due_;  // when to stop waiting for the wait status
  std::uint64_t max_rss_bytes_ = 0, results_ = 0;
  std::chrono::microseconds cpu_time_{};
  const char* killed_because_ = nullptr;
  std::string violation_;
};

template <class Description>
void worker_life::describe_end(Description& to) const noexcept {
  to.pid = pid_;
  to.max_rss_bytes = max_rss_bytes_;
  to.status_known = wait_status_.has_value();
  to.signal = signal();
  to.exit_code = exit_code();
}

}  // namespace shmpool::pool
