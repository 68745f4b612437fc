// One worker's life as the application knows it, from the request for it until its end is accounted for: what the fork
// server, the worker and the kernel have said of it, what was decided about it, and what follows from both.
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
    asked,    ///< wanted; frames for it may be sent already
    alive,    ///< its process exists
    leaving,  ///< it was told to leave, or was killed, or is of no use: it will end
    ended,    ///< its end is accounted for
  };

  /// How its process is killed.
  enum class killer : std::uint8_t {
    nobody,  ///< its end is accounted for
    signal,  ///< by a signal to its process
    server,  ///< by the fork server: there is no process yet that this one could signal, or the kernel did not let it
  };

  /// What becomes of it when its fork server has died.
  enum class orphaned : std::uint8_t {
    wanted,  ///< no server knew of it: the next one starts it
    killed,  ///< its process is dying with the server, and is killed to make that sure
    over,    ///< its process is not there, or nobody will ever know of it
  };

  /// How long the fork server may take to say how a worker ended whose process has.
  static constexpr std::chrono::milliseconds status_patience{200};

  // ---- What is heard of it.

  /// A server has been told to start it.
  void told_to_server() noexcept;
  /// The server has started it, and its end can be waited for.
  void spawned(pid_t process) noexcept;
  /// The server could not start it, or it cannot be told to. No more is heard of it: the caller accounts for it at
  /// once.
  void spawn_failed() noexcept { stage_ = stage::ended; }
  /// The kernel says that its process has ended. How it did is for the server to say, if that is there to do so.
  void process_ended(time_point now) noexcept;
  /// The server says how it ended.
  void exit_status(int wait_status, std::uint64_t max_rss_bytes, std::chrono::microseconds cpu_time) noexcept;
  /// The server has died. Unless it is `wanted` yet, nobody will say how it ends.
  orphaned server_lost() noexcept;
  /// There will be no server any more: one that has no process will never have one.
  void no_server() noexcept;
  /// The worker gives its pid. The server's word, which may come later, replaces it.
  void told_pid(std::uint64_t number) noexcept;
  /// It is set up and has run the initializer.
  void ready() noexcept { ready_ = true; }
  /// It has said that it cannot be set up, and ends.
  void unfit() noexcept;
  /// It has sent the result of a task.
  void replied() noexcept { ++results_; }

  // ---- What is decided about it.

  /// It ends when it has done what it has begun; `retired` as it was told to, `idle` of its own accord.
  void may_leave(worker_exit::reason why) noexcept;
  /// The scheduler has it killed: for the task that it is at, or as it should have left and did not.
  killer kill_for_task(const char* why) noexcept;
  /// It is of no use to the pool, and its end is counted as the pool's doing.
  killer kill_as_useless(const char* why) noexcept;
  /// It is killed, or on its way to die anyway: its end is counted as whatever it turns out to be. `why` is a literal
  /// for whoever loses a task by it; null if there is nothing to say.
  killer kill(const char* why) noexcept;
  /// The kernel does not let this process signal it; what is done instead.
  killer signal_refused() const noexcept { return killer::server; }
  /// What it has sent makes no sense. It is killed, and no more is read of it.
  killer violated(const char* what);
  /// Its end is accounted for.
  void accounted() noexcept { stage_ = stage::ended; }

  // ---- What follows.

  stage now() const noexcept { return stage_; }
  bool is_ended() const noexcept { return stage_ == stage::ended; }
  bool is_ready() const noexcept { return ready_; }
  bool is_unfit() const noexcept { return unfit_; }
  /// True if a server has yet to be told of it.
  bool is_untold() const noexcept { return process_ == process::untold; }
  /// True if it has a process, dead or not, that was made known to this one.
  bool has_process() const noexcept { return process_ == process::there || (process_ == process::ended && seen_); }
  /// True if the end of its process is to be waited for.
  bool awaits_end() const noexcept { return process_ == process::there; }
  /// True if it can be accounted for: the server has said how it ended, or it has ended and nobody is going to say how.
  /// `status_overdue()` is to be called when the time has come.
  bool end_is_known() const noexcept {
    return wait_status_.has_value() || (process_ == process::ended && !status_due_);
  }
  /// The server has had its time to say how it ended.
  void status_overdue(time_point now) noexcept {
    if (status_due_ && now >= *status_due_) status_due_.reset();
  }
  /// When status_overdue() has something to do; the end of time if never.
  time_point due() const noexcept { return status_due_ && !wait_status_ ? *status_due_ : time_point::max(); }

  pid_t pid() const noexcept { return pid_; }
  std::uint64_t results() const noexcept { return results_; }
  std::chrono::microseconds cpu_time() const noexcept { return cpu_time_; }
  std::optional<int> wait_status() const noexcept { return wait_status_; }
  const char* killed_because() const noexcept { return killed_because_; }
  worker_exit::reason exit_reason() const noexcept { return exit_reason_; }
  /// Why its stream was given up; empty if it was not.
  const std::string& violation() const noexcept { return violation_; }
  bool was_asked_to_leave() const noexcept {
    return exit_reason_ == worker_exit::reason::retired || exit_reason_ == worker_exit::reason::idle;
  }
  /// It was the pool's doing, or that of the fork server's end: its death says nothing of its task.
  bool died_by_pool() const noexcept;
  /// How it ended, in words: "killed by signal 11".
  std::string describe_death() const;
  /// Fills in what worker_lost::details and worker_exit have in common.
  template <class Description>
  void describe_end(Description& to) const noexcept;

 private:
  enum class process : std::uint8_t {
    untold,  ///< no server knows of it
    asked,   ///< a server is to start it, and has not answered
    there,
    ended,  ///< or it never was there
  };

  /// For describe_end(), without the macros of <sys/wait.h> in this header.
  int signal() const noexcept;
  int exit_code() const noexcept;

  stage stage_ = stage::asked;
  process process_ = process::untold;
  bool seen_ = false;         // its process was there
  bool server_gone_ = false;  // the server that knew of it is dead: nobody will say how it ended
  bool ready_ = false, unfit_ = false;
  worker_exit::reason exit_reason_ = worker_exit::reason::died;
  pid_t pid_ = 0;  // for messages only: processes are told apart by pidfd
  std::optional<int> wait_status_;
  std::optional<time_point> status_due_;  // when to stop waiting for it
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
