// The closed set of errors of a task, as error codes and as exceptions.
//
// Thread safety: categories may be used by any thread; exceptions are immutable after construction.
#pragma once

#include <shmpool/remote_error.hpp>

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>

namespace shmpool {

/// Error codes of shmpool_category(). Every failed submit carries one of these, operation_aborted (Asio's own code),
/// the exception that the task threw, or, for arguments that cannot be sent, std::invalid_argument or std::bad_alloc.
enum class errc {
  worker_lost = 1,      ///< the worker died while it ran the task; thrown as worker_lost
  deadline_exceeded,    ///< the task ran longer than task_options::timeout, or was not done by its deadline
  queue_full,           ///< pool_options::max_pending or max_pending_bytes was reached
  array_busy,           ///< an array overlaps another of the call or of a task in flight, and one of the two is written
  shm_exhausted,        ///< an array cannot be had: no room, a limit of a process, a removed name; the text says which
  pool_closed,          ///< shutdown() or stop() was called, or the executor's context is gone
  pool_broken,          ///< workers cannot be kept alive; the text says why, and when the pool tries again
  protocol_violation,   ///< a worker sent a malformed message and was killed
  function_not_found,   ///< the worker cannot find the function; the text says which module it looked for
  worker_start_failed,  ///< no worker could be started; the text names the system call and its error
  message_too_large,    ///< arguments or a result (without arrays) are larger than 1 GiB, or have more than 131,072
                        ///< arrays
  fork_server,          ///< the fork server could not be started; the text says what to do
  quarantined,  ///< the function, or this call of it, has killed too many workers: see pool_options::quarantine_*
};

const std::error_category& shmpool_category() noexcept;
std::error_code make_error_code(errc code) noexcept;

/// The worker died while it ran the task: killed, crashed, or left through exit.
class worker_lost : public std::system_error {
 public:
  struct details {
    pid_t pid = 0;
    int signal = 0;                   ///< the signal that ended it, 0 if it exited
    int exit_code = 0;                ///< its exit code, if signal is 0
    bool status_known = false;        ///< false if nobody could learn how it ended
    std::uint64_t max_rss_bytes = 0;  ///< its peak resident memory, 0 if unknown
    /// Whether the task had begun to run; false: the pool gave it up because workers died before they began it.
    bool started = true;
    const char* killed_because = nullptr;  ///< why the pool killed it, a literal; null if it did not
    std::chrono::milliseconds cpu_time{};  ///< the CPU time that it had used, 0 if unknown
    std::chrono::seconds cpu_limit{};      ///< its RLIMIT_CPU if it had used that up, or else 0
  };
  explicit worker_lost(const details& why);
  worker_lost(const worker_lost&) noexcept = default;
  worker_lost& operator=(const worker_lost&) noexcept = default;
  ~worker_lost() override;

  /// Which worker was lost, when, how and with how much memory, in one sentence.
  const char* what() const noexcept override { return text_.what(); }

  pid_t pid() const noexcept { return details_.pid; }
  int signal() const noexcept { return details_.signal; }
  int exit_code() const noexcept { return details_.exit_code; }
  bool status_known() const noexcept { return details_.status_known; }
  std::uint64_t max_rss_bytes() const noexcept { return details_.max_rss_bytes; }
  bool started() const noexcept { return details_.started; }
  /// True if the pool killed it, for a reason that is not this task's: what() says which.
  bool killed_by_pool() const noexcept { return details_.killed_because != nullptr; }

 private:
  // system_error would append the category's message. text_ is a runtime_error because copying one cannot throw.
  std::runtime_error text_;
  details details_;
};

}  // namespace shmpool

template <>
struct std::is_error_code_enum<shmpool::errc> : std::true_type {};
