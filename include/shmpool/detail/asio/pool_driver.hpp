// The Asio side of a pool, below its handlers: waits for the engine's descriptor while work is outstanding, drains it,
// and sends completions on their way. Shared by the pool object and its operations in flight.
//
// Thread safety: all members may be called from any thread.
#pragma once

#include <shmpool/asio.hpp>
#include <shmpool/detail/asio/one_at_a_time.hpp>
#include <shmpool/detail/asio/turns.hpp>
#include <shmpool/detail/engine.hpp>
#include <shmpool/error.hpp>

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <utility>
#include <vector>

namespace shmpool::detail {
inline namespace SHMPOOL_ASIO_ABI {

/// Told when the execution context of a pool is destroyed before the pool.
class context_listener {
 public:
  virtual void context_destroyed() noexcept = 0;

 protected:
  ~context_listener() = default;
};

/// Tells the pools of an execution context of its end; registered with the context.
class pool_service : public net::execution_context::service {
 public:
  using key_type = pool_service;
  static inline net::execution_context::id id;
  explicit pool_service(net::execution_context& context) : net::execution_context::service(context) {}

  void add(std::weak_ptr<context_listener> pool) {
    std::lock_guard lock(mutex_);
    std::erase_if(pools_, [](const auto& each) { return each.expired(); });
    pools_.push_back(std::move(pool));
  }

 private:
  void shutdown() noexcept override {
    // Moved out first: a handler that is destroyed may own a pool, whose destructor must find the lock free.
    std::vector<std::weak_ptr<context_listener>> pools;
    {
      std::lock_guard lock(mutex_);
      pools.swap(pools_);
    }
    for (const auto& each : pools) {
      if (const auto pool = each.lock()) pool->context_destroyed();
    }
  }

  std::mutex mutex_;
  std::vector<std::weak_ptr<context_listener>> pools_;
};

class pool_driver final : public context_listener, public std::enable_shared_from_this<pool_driver> {
 public:
  /// `engine` comes from make_engine(), or from a test.
  static std::shared_ptr<pool_driver> make(net::any_io_executor executor, std::shared_ptr<detail::engine> engine) {
    std::shared_ptr<pool_driver> made(new pool_driver(std::move(executor), std::move(engine)));
    auto& context = net::query(made->executor_, net::execution::context);
    net::use_service<pool_service>(context).add(made);
    return made;
  }

  pool_driver(const pool_driver&) = delete;
  pool_driver& operator=(const pool_driver&) = delete;
  // close() has dropped it, but not in a process that the application has forked inside a handler.
  ~pool_driver() { drop_descriptor(); }

  detail::engine& engine() noexcept { return *engine_; }
  const net::any_io_executor& executor() const noexcept { return executor_; }

  /// True once the execution context was destroyed: nothing can be posted to it any more.
  bool context_gone() const noexcept { return context_gone_.load(std::memory_order_acquire); }

  /// Throws if completions can no longer be delivered because the execution context is gone.
  void require_context() const {
    if (context_gone()) {
      throw std::system_error(errc::pool_closed, "the execution context of the pool was destroyed");
    }
  }

  /// Starts the wait for the descriptor before an operation is given to the engine, so that the wait takes no memory
  /// afterwards. Throws what the executor throws. Call expect_no_end() if the engine then does not take the operation.
  void expect_end() { watch(expect::start); }
  void expect_no_end() noexcept {
    try {
      watch(expect::ends);
    } catch (...) {
      // The wait ends with the next operation.
    }
  }

  /// As react(), after the engine has taken an operation over: a failure here is not the caller's, whose operation ends
  /// as any other.
  void follow(flush_hint what) noexcept {
    try {
      react(what);
    } catch (...) {
    }
  }

  /// Does the flush that a call to the engine left to its caller. Completions are posted, never called from here.
  void react(flush_hint what) {
    if (what == flush_hint::now) {
      settle(delivery::post, engine_->flush());
    } else {
      watch(expect::starts);
      if (what == flush_hint::soon) flush_soon();
    }
  }

  /// The descriptor of a pool that nobody waits for is not watched, so the ends of its workers are noticed now.
  pool_stats stats() {
    if (!engine_->inert() && !engine_->active()) {
      engine_->drain();
      react(flush_hint::now);
    }
    return engine_->stats();
  }

  void cancel(std::uint64_t key, cancel_kind kind) { react(engine_->cancel(key, kind)); }

  void stop() {
    if (owner_ != ::getpid()) return;
    engine_->stop();
    react(flush_hint::now);
  }

  /// Called when the pool object goes. When this returns, only posted handlers are left and, where the kernel has
  /// refused a request lately, a timer of at most engine::retry_after().
  void close() noexcept {
    stop_watching();
    engine_->close();
    if (context_gone()) return discard();
    try {
      deliver(delivery::post);
    } catch (...) {
      // Out of memory while posting; the rest is destroyed.
    }
  }

 private:
  using descriptor = net::posix::basic_stream_descriptor<net::any_io_executor>;
  using timer = net::basic_waitable_timer<std::chrono::steady_clock, net::wait_traits<std::chrono::steady_clock>,
                                          net::any_io_executor>;

  pool_driver(net::any_io_executor executor, std::shared_ptr<detail::engine> engine)
      : executor_(std::move(executor)), turns_(executor_), engine_(std::move(engine)) {
    descriptor_ = std::make_unique<descriptor>(executor_, engine_->descriptor());
  }

  /// The engine closes the descriptor. A process that the application has forked leaves the descriptor alone, for good:
  /// Asio's epoll instance is shared with the parent there, and deregistering would deregister the parent's.
  void drop_descriptor() noexcept {
    if (!descriptor_) return;
    if (owner_ == ::getpid()) descriptor_->release();
    else static_cast<void>(descriptor_.release());
    descriptor_.reset();
  }

  /// Handler of the wait for the descriptor. An executor may destroy it instead of calling it.
  struct on_readable {
    explicit on_readable(std::shared_ptr<pool_driver> of) noexcept : driver(std::move(of)) {}
    on_readable(on_readable&&) noexcept = default;
    ~on_readable() {
      if (driver) driver->waiting_ = false;
    }
    void operator()(const net_error_code& error) { std::exchange(driver, nullptr)->turn(static_cast<bool>(error)); }
    std::shared_ptr<pool_driver> driver;
  };
  struct on_flush {
    std::shared_ptr<pool_driver> driver;
    void operator()() const {
      driver->flush_posted_.store(false, std::memory_order_release);
      driver->settle(delivery::dispatch, driver->engine_->flush());
    }
  };
  struct on_poll {
    std::shared_ptr<pool_driver> driver;
    void operator()() const {
      driver->poll_posted_.store(false, std::memory_order_release);
      if (driver->engine_->poll()) driver->settle(delivery::dispatch);
      else driver->poll_soon();
    }
  };
  /// Handler of the timer that retry_if_refused() sets; owns the timer.
  struct on_retry {
    on_retry(std::shared_ptr<pool_driver> of, std::shared_ptr<timer> when) noexcept
        : driver(std::move(of)), due(std::move(when)) {}
    on_retry(on_retry&&) noexcept = default;
    ~on_retry() {
      if (driver) driver->retry_set_.store(false, std::memory_order_release);
    }
    void operator()(const net_error_code&) {
      const auto of = std::exchange(driver, nullptr);
      of->retry_set_.store(false, std::memory_order_release);
      of->drain();
    }
    std::shared_ptr<pool_driver> driver;
    std::shared_ptr<timer> due;
  };

  /// Counts a notice from its post until its call has returned.
  class on_its_way {
   public:
    explicit on_its_way(std::shared_ptr<std::atomic<std::size_t>> all) : all_(std::move(all)) {
      all_->fetch_add(1, std::memory_order_relaxed);
    }
    on_its_way(on_its_way&&) noexcept = default;
    on_its_way(const on_its_way& other) : on_its_way(other.all_) {}
    on_its_way& operator=(on_its_way) = delete;
    ~on_its_way() {
      if (all_) all_->fetch_sub(1, std::memory_order_release);
    }

   private:
    std::shared_ptr<std::atomic<std::size_t>> all_;
  };

  enum class expect : std::uint8_t {
    start,   ///< an operation is about to start
    starts,  ///< operations have started
    ends,    ///< operations may have ended
  };

  /// Waits for the descriptor while somebody waits for a completion, and no longer: an idle pool lets io_context::run()
  /// return. Call after starting operations, and after anything that may have ended some: another thread may have begun
  /// to wait for them meanwhile.
  void watch(expect what) {
    // The thread that ends the wait checks once more whether somebody waits for a completion.
    if (what != expect::ends && waiting_.load(std::memory_order_acquire)) return;
    if (engine_->inert()) return;
    watching_.run([this, what] {
      if (closed_) return drop_descriptor();
      if (!descriptor_) return;
      const bool active = what == expect::start || engine_->active();
      if (active == waiting_) return;
      if (!active) {
        // While the engine polls, the next operation may start at any moment: the wait stays until poll_soon() finds
        // that polling has ended. Said first: either it sees this, or this thread sees the end of polling.
        wait_kept_ = true;
        if (engine_->polling()) return;
        wait_kept_ = false;
        return descriptor_->cancel();  // on_readable is on its way, then
      }
      waiting_ = true;  // before its handler can run
      try {
        descriptor_->async_wait(descriptor::wait_read, on_readable(shared_from_this()));
      } catch (...) {
        waiting_ = false;
        throw;
      }
    });
  }

  /// Drops the descriptor, but not before another thread, or an executor's code that has called this, is done with it.
  void stop_watching() noexcept {
    closed_ = true;
    if (owner_ != ::getpid()) return drop_descriptor();  // the thread that used it may not exist here
    watching_.run([this] { drop_descriptor(); });
  }

  void turn(bool cancelled) {
    waiting_ = false;
    if (closed_) return;
    if (cancelled) {
      watch(expect::ends);
      deliver(delivery::dispatch);
    } else {
      drain();
    }
  }

  void drain() {
    engine_->drain();
    settle(delivery::dispatch);
  }

  /// Call after anything that may have ended operations. `ended`: some have, perhaps.
  void settle(delivery how, bool ended = true) {
    completion_list first;
    try {
      retry_if_refused();
      // Before the handlers: while they run, another thread of the context can drain.
      watch(ended ? expect::ends : expect::starts);
    } catch (...) {
      engine_->stop_polling();            // or else workers would rely on a poll() that never comes
      post_ended(delivery::post, first);  // or else nobody may ever ask for what has ended
      throw;
    }
    try {
      if (ended) post_ended(how, first);
    } catch (...) {
      engine_->stop_polling();
      throw;
    }
    poll_soon();  // after the posted handlers, which may have something to send
    if (operation* op = first.pop()) op->complete(delivery::dispatch);
  }

  /// Sets a timer if the kernel has refused a request, for lack of memory, say: nothing will make the descriptor
  /// readable.
  void retry_if_refused() {
    const auto delay = engine_->retry_after();
    if (delay == delay.zero() || context_gone() || retry_set_.exchange(true, std::memory_order_acq_rel)) return;
    try {
      const auto due = std::make_shared<timer>(executor_, delay);
      due->async_wait(on_retry(shared_from_this(), due));
    } catch (...) {
      retry_set_.store(false, std::memory_order_release);
      throw;
    }
  }

  /// Posts the next poll, as long as the engine polls. Other handlers that are due run between two polls.
  void poll_soon() {
    if (!engine_->polling()) {
      if (wait_kept_.load() && wait_kept_.exchange(false)) end_kept_wait();
      return;
    }
    if (poll_posted_.exchange(true, std::memory_order_acq_rel)) return;
    try {
      turns_.execute(on_poll{shared_from_this()});
    } catch (...) {  // out of memory, say
      poll_posted_.store(false, std::memory_order_release);
      engine_->stop_polling();
    }
  }

  void end_kept_wait() noexcept {
    if (!engine_->inert()) return expect_no_end();
    // In a process that was forked inside a handler nobody is to wait for the parent's descriptor.
    try {
      if (descriptor_) descriptor_->cancel();
    } catch (...) {
      // It is left alone, then.
    }
  }

  void flush_soon() {
    if (flush_posted_.exchange(true, std::memory_order_acq_rel)) return;
    try {
      turns_.execute(on_flush{shared_from_this()});
    } catch (...) {  // out of memory, say: operations that this flush ends are delivered by the next turn
      flush_posted_.store(false, std::memory_order_release);
      engine_->flush();
      engine_->stop_polling();  // nobody is there to poll
    }
  }

  /// Calls the handlers of operations that have ended; from a turn of the loop (dispatch) the first at once. The others
  /// are posted before the first runs: it may throw, or block until another thread has called the others. So each
  /// exception also leaves run() on its own.
  void deliver(delivery how) {
    completion_list first;
    post_ended(how, first);
    if (operation* op = first.pop()) op->complete(delivery::dispatch);
  }

  /// Posts operations that have ended, except the one to be called at once, which becomes `first`.
  void post_ended(delivery how, completion_list& first) {
    if (engine_->inert()) return;
    // By one thread at a time, so that no completion overtakes one that was taken earlier.
    posting_.run([&] {
      std::vector<notice> notices;
      completion_list ended = engine_->take_completed(notices);
      // The notices of a task are posted before its end: by now the engine has all of them.
      for (notice& each : notices) {
        try {
          turns_.execute([call = std::move(each), heard = on_its_way(notices_)] { call(); });
        } catch (const std::bad_alloc&) {
          // This notice is dropped; but no operation that has ended may be lost for it.
        }
      }
      if (how == delivery::dispatch && first.empty() && notices_->load(std::memory_order_acquire) == 0) {
        if (operation* op = ended.pop()) first.push(*op);
      }
      // On the pool's executor: that of use_future is Asio's system executor, which would start threads for them.
      while (operation* op = ended.pop()) turns_.complete(*op);
    });
  }

  /// Destroys the notices and completions that are due: there is nowhere to post them.
  void discard() noexcept {
    std::vector<notice> notices;
    const completion_list ended = engine_->take_completed(notices);
  }

  void context_destroyed() noexcept override {
    context_gone_.store(true, std::memory_order_release);
    stop_watching();
    engine_->close();
    discard();
  }

  const pid_t owner_ = ::getpid();
  net::any_io_executor executor_;
  const turns turns_;
  std::shared_ptr<detail::engine> engine_;
  // No locks: these two run code of the executor, which is user code.
  one_at_a_time watching_;  // the thread that runs it owns descriptor_
  one_at_a_time posting_;
  std::unique_ptr<descriptor> descriptor_;
  std::atomic<bool> closed_{false};
  std::atomic<bool> waiting_{false};
  std::atomic<bool> wait_kept_{false};  // nobody waits for a completion, but the engine polls
  std::atomic<bool> flush_posted_{false};
  std::atomic<bool> poll_posted_{false};
  std::atomic<bool> retry_set_{false};
  std::atomic<bool> context_gone_{false};
  std::shared_ptr<std::atomic<std::size_t>> notices_ = std::make_shared<std::atomic<std::size_t>>(0);  // undelivered
};

}  // namespace SHMPOOL_ASIO_ABI
}  // namespace shmpool::detail
