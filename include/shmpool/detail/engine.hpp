// The compiled part of a pool as the Asio side sees it: one descriptor to wait for, and calls that take operations and
// give them back when they have ended. It knows no Asio, so one compiled library serves every Asio.
//
// Thread safety: all members of engine may be called from any thread.
#pragma once

#include <shmpool/detail/attachment.hpp>
#include <shmpool/detail/callable_ref.hpp>
#include <shmpool/detail/cancel_kind.hpp>
#include <shmpool/detail/segment_source.hpp>
#include <shmpool/options.hpp>
#include <shmpool/shm_handle.hpp>
#include <shmpool/stats.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

namespace shmpool::detail {

/// Why a pool is broken; shared by all tasks that end for that reason.
struct breakage;

/// The outcome of a task. error_in() decodes an exception that a worker has sent: decoding runs user code, and the
/// engine holds its lock.
struct outcome {
  std::vector<std::byte> bytes;            ///< the encoded result, or exception
  std::vector<attachment> attachments;     ///< the segments that it refers to
  std::exception_ptr error;                ///< why there is no result
  std::shared_ptr<const breakage> broken;  ///< in place of `error`, where the pool is broken
  bool threw = false;                      ///< the task ended with an exception, which is in `bytes`
  bool aborted = false;                    ///< cancelled, or the pool was stopped: Asio's operation_aborted
  std::uint64_t permit = 0;                ///< of an operation that waited for a permit: the number of its permit
  std::chrono::nanoseconds run{};          ///< how long it ran, as far as known
  pid_t worker_pid = 0;
};

/// The error of a failed operation that was not aborted, or null. Not to be called under a lock.
std::exception_ptr error_in(const outcome& result);

/// How a completion handler is to be called.
enum class delivery : std::uint8_t {
  dispatch,  ///< from the loop: at once if its executor allows
  post,      ///< from an initiating function, stop() or a destructor: never from inside it
};

/// One submit (or shutdown) in flight. Made by the Asio side, with memory from the handler's allocator.
class operation {
 public:
  outcome result;
  operation* next = nullptr;
  std::uint64_t cancel_key = 0;  ///< its name in engine::cancel(); 0: cannot be cancelled
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();  ///< of its task
  /// The callback of its task: here, so that it is destroyed with the operation and under no lock.
  callback<void(double)> on_progress;
  alignas(std::max_align_t) std::byte turn_memory[64];  ///< for the operation's turn of the loop: see asio/turns.hpp

  /// Frees itself, then calls the handler with `result`. Lets exceptions of the handler out.
  virtual void complete(delivery how) = 0;
  /// Frees itself and the handler, which is not called.
  virtual void destroy() noexcept = 0;

 protected:
  ~operation() = default;
};

/// A queue of operations that have ended; owns them.
class completion_list {
 public:
  completion_list() noexcept = default;
  completion_list(completion_list&& other) noexcept
      : head_(std::exchange(other.head_, nullptr)), tail_(std::exchange(other.tail_, nullptr)) {}
  completion_list& operator=(completion_list other) noexcept {
    std::swap(head_, other.head_);
    std::swap(tail_, other.tail_);
    return *this;
  }
  ~completion_list() {
    while (operation* op = pop()) op->destroy();
  }
  bool empty() const noexcept { return head_ == nullptr; }
  bool has_several() const noexcept { return head_ && head_->next; }
  void push(operation& op) noexcept {
    op.next = nullptr;
    (head_ ? tail_->next : head_) = &op;
    tail_ = &op;
  }
  operation* pop() noexcept {
    operation* first = head_;
    if (first) head_ = first->next;
    return first;
  }

 private:
  operation* head_ = nullptr;
  operation* tail_ = nullptr;
};

/// A call of a user's callback that is due, with a share of the callback.
class notice {
 public:
  notice(const callback<void(double)>& call, double fraction) : call_(progress{call, fraction}) {}
  notice(const callback<void(const worker_exit&)>& call, const worker_exit& how) : call_(exit{call, how}) {}
  void operator()() const {
    std::visit([](const auto& each) { each.call(each.what); }, call_);
  }

 private:
  struct progress {
    callback<void(double)> call;
    double what;
  };
  struct exit {
    callback<void(const worker_exit&)> call;
    worker_exit what;
  };
  std::variant<progress, exit> call_;
};

/// The flush that a call to the engine leaves to its caller.
enum class flush_hint : std::uint8_t {
  none,  ///< nothing
  soon,  ///< flush() at the end of this turn of the loop: more may come to be sent together
  now,   ///< flush() at once: an idle worker waits for it
};

class engine {
 public:
  virtual ~engine() = default;

  /// True for the copy of a pool in a process that the application has forked: it does nothing, and takes no lock,
  /// because a thread that does not exist here may hold it.
  virtual bool inert() const noexcept = 0;
  /// Readable when drain() has something to do.
  virtual int descriptor() const noexcept = 0;
  /// True while somebody waits for a completion: then the descriptor has to be watched.
  virtual bool active() const noexcept = 0;

  /// The source of memory for arguments.
  virtual segment_source& memory() noexcept = 0;
  virtual std::size_t inline_limit() const noexcept = 0;

  /// True if pending tasks are bounded and submits wait for room: then acquire() comes before submit().
  virtual bool has_admission_limit() const noexcept = 0;
  /// Asks for a permit, which is given if `permit` is not 0; otherwise takes over `op`, which completes with a permit
  /// in its result, or with the error that ended it. A permit is for one submit() or release(). Throws
  /// std::system_error (pool_closed, pool_broken); then `op` is still the caller's.
  virtual flush_hint acquire(operation& op, std::uint64_t& permit) = 0;
  /// Gives a permit back. `cancel_key` is that of the operation that the permit was for.
  virtual flush_hint release(std::uint64_t permit, std::uint64_t cancel_key) noexcept = 0;
  /// Queues a task; takes over `op`. Throws std::system_error (queue_full, array_busy, pool_closed, pool_broken,
  /// function_not_found, message_too_large, quarantined); then `op` and the permit are still the caller's.
  virtual flush_hint submit(operation& op, const callable_ref& fn, std::vector<std::byte>&& arguments,
                            std::vector<attachment>&& attachments, const task_options& options,
                            std::uint64_t permit) = 0;
  virtual flush_hint cancel(std::uint64_t cancel_key, cancel_kind kind) = 0;
  /// No further submits; takes over `op`, which completes when all tasks have ended, all workers have left and the
  /// cache is cleared.
  virtual flush_hint shutdown(operation& op) = 0;
  /// Kills all workers; every task is aborted, operations of shutdown() complete when the workers are gone.
  virtual void stop() noexcept = 0;
  /// As stop(), and waits (for at most two seconds) until no worker runs. Later calls do nothing, except
  /// take_completed() and clear_shm().
  virtual void close() noexcept = 0;

  /// Sends all that is due. True if there is something for take_completed().
  virtual bool flush() = 0;
  /// Handles everything that has arrived. Never blocks.
  virtual void drain() = 0;
  /// True if poll() is to be called when the handlers that are due now have run. A sequentially consistent load.
  virtual bool polling() const noexcept = 0;
  /// Handles replies that workers have left in memory, to be called while polling() says so. True if there were any.
  virtual bool poll() = 0;
  /// Call when no poll() will follow: workers go back to ringing for their replies, and the descriptor turns readable
  /// for those that they have not rung for.
  virtual void stop_polling() = 0;
  /// Not zero if the kernel has refused a request of flush() or drain(): drain() is then to be called after this time,
  /// even if the descriptor is not readable.
  virtual std::chrono::milliseconds retry_after() const noexcept = 0;
  /// Operations that have ended since the last call. `notices`, empty before, receives the notices to deliver before
  /// these ends, oldest first. All of this is handed out because no object of the user's may be destroyed under the
  /// engine's lock.
  virtual completion_list take_completed(std::vector<notice>& notices) noexcept = 0;

  virtual clear_result clear_shm() = 0;
  virtual pool_stats stats() const = 0;
  virtual unsigned max_workers() const noexcept = 0;
};

/// Checks the options; throws std::invalid_argument that names the option, or std::system_error.
std::shared_ptr<engine> make_engine(const pool_options& options);

/// The time that is `span` from now; time_point::max() if `span` is zero. Throws std::invalid_argument if `span` is
/// negative.
std::chrono::steady_clock::time_point deadline_after(std::chrono::nanoseconds span);

/// A key for operation::cancel_key.
std::uint64_t next_cancel_key() noexcept;

}  // namespace shmpool::detail
