// The compiled part of a pool as the Asio side sees it: one descriptor to wait for, and calls that take operations and
// give them back when they have ended. It knows no Asio, so one compiled library serves every Asio.
//
// Thread safety: all members of engine may be called from any thread.
#pragma once

#include <shmpool/detail/cancel_kind.hpp>
#include <shmpool/detail/message.hpp>
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

/// Why a pool is broken: shared by all tasks that end for it.
struct breakage;

/// What became of a task. What a worker has sent of an exception is decoded by error_in(), as that runs code of the
/// user's, and the engine holds its lock.
struct outcome {
  std::vector<std::byte> bytes;            ///< the encoded result, or exception
  std::vector<attachment> attachments;     ///< the segments that it refers to
  std::exception_ptr error;                ///< why there is none
  std::shared_ptr<const breakage> broken;  ///< the same, where the pool is broken
  bool threw = false;                      ///< the task ended with an exception, which is in `bytes`
  bool aborted = false;                    ///< cancelled, or the pool was stopped: Asio's operation_aborted
  std::uint64_t place = 0;                 ///< of an operation that was held: the place that it got
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
  std::uint64_t cancel_key = 0;  ///< names it for engine::cancel(); 0: cannot be cancelled
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();  ///< of its task
  /// Of its task: here, so that it is destroyed with the operation and under no lock.
  callback<void(double)> on_progress;
  alignas(std::max_align_t) std::byte turn_memory[64];  ///< for whoever makes it a turn of the loop: see asio/turns.hpp

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

/// Something to tell the user, with a share of the function that is to be called.
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

/// What a call to the engine leaves to be done by its caller.
enum class flush_hint : std::uint8_t {
  none,  ///< nothing
  soon,  ///< flush() at the end of this turn of the loop: more may come to be sent together
  now,   ///< flush() at once: an idle worker waits for it
};

class engine {
 public:
  virtual ~engine() = default;

  /// True for the copy of a pool in a process that the application has forked: it does nothing, and takes no lock,
  /// which may be that of a thread that is not there.
  virtual bool inert() const noexcept = 0;
  /// Readable when drain() has something to do.
  virtual int descriptor() const noexcept = 0;
  /// True while somebody waits for a completion: then the descriptor has to be watched.
  virtual bool active() const noexcept = 0;

  /// Where arguments' memory comes from.
  virtual segment_source& memory() noexcept = 0;
  virtual std::size_t inline_limit() const noexcept = 0;

  /// True if there is a bound on what is under way and submits wait for room: then hold() comes before submit().
  virtual bool holds() const noexcept = 0;
  /// Asks for a place. There is one if `place` is not 0; otherwise takes over `op`, which completes when there is one
  /// in its result, or with the error that ended it. A place is for one submit() or withdraw(). Throws
  /// std::system_error (pool_closed, pool_broken); then `op` is still the caller's.
  virtual flush_hint hold(operation& op, std::uint64_t& place) = 0;
  /// Gives a place back. `cancel_key` is that of the operation that it was for.
  virtual flush_hint withdraw(std::uint64_t place, std::uint64_t cancel_key) noexcept = 0;
  /// Queues a task; takes over `op`. Throws std::system_error (queue_full, array_busy, pool_closed, pool_broken,
  /// function_not_found, message_too_large, quarantined); then `op` and the place are still the caller's.
  virtual flush_hint submit(operation& op, const callable_ref& fn, std::vector<std::byte> arguments,
                            std::vector<attachment> attachments, const task_options& options, std::uint64_t place) = 0;
  virtual flush_hint cancel(std::uint64_t cancel_key, cancel_kind kind) = 0;
  /// No further submits; takes over `op`, which completes when all tasks have ended, all workers have left and the
  /// cache is cleared.
  virtual flush_hint shutdown(operation& op) = 0;
  /// Kills all workers; every task is aborted, operations of shutdown() complete when the workers are gone.
  virtual void stop() noexcept = 0;
  /// As stop(), and waits (for at most two seconds) until no worker runs. Whatever is called afterwards does nothing,
  /// but for take_completed() and clear_shm().
  virtual void close() noexcept = 0;

  /// Sends what is to be sent.
  virtual void flush() = 0;
  /// Takes note of everything that has happened. Never blocks.
  virtual void drain() = 0;
  /// True if poll() is to be called when the handlers that are due now have run.
  virtual bool polling() const noexcept = 0;
  /// Takes note of replies that workers have left in memory, as long as polling() said so. True if there was anything.
  virtual bool poll() = 0;
  /// Nobody is going to call poll(): workers send their replies again, and the descriptor turns readable for what they
  /// have not sent.
  virtual void stop_polling() = 0;
  /// Not zero if the kernel has refused what flush() or drain() had for it: drain() is to be called after this time
  /// then, whatever the descriptor says.
  virtual std::chrono::milliseconds retry_after() const noexcept = 0;
  /// Operations that have ended since the last call. `notices`, empty before, becomes what there is to tell before
  /// their ends, oldest first. Nothing of the user's is destroyed under the engine's lock, which is why all of it is
  /// handed out.
  virtual completion_list take_completed(std::vector<notice>& notices) noexcept = 0;

  virtual clear_result clear_shm() = 0;
  virtual pool_stats stats() const = 0;
  virtual unsigned max_workers() const noexcept = 0;
};

/// Checks the options; throws std::invalid_argument that names the option, or std::system_error.
std::shared_ptr<engine> make_engine(const pool_options& options);

/// The time that is `span` from now; that of no deadline if `span` is zero. Throws std::invalid_argument if it is
/// negative.
std::chrono::steady_clock::time_point deadline_after(std::chrono::nanoseconds span);

/// A key for operation::cancel_key.
std::uint64_t next_cancel_key() noexcept;

}  // namespace shmpool::detail
