// process_pool: a pool of worker processes as an Asio I/O object.
#pragma once

#include <shmpool/array.hpp>
#include <shmpool/asio.hpp>
#include <shmpool/detail/asio/map_operation.hpp>
#include <shmpool/detail/asio/pool_driver.hpp>
#include <shmpool/detail/asio/submit_operation.hpp>
#include <shmpool/options.hpp>
#include <shmpool/shm_handle.hpp>
#include <shmpool/stats.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <memory>
#include <ranges>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace shmpool {
inline namespace SHMPOOL_ASIO_ABI {

/// A pool of worker processes. Functions run in a worker, arrays travel through shared memory.
///
/// Thread safety: distinct and shared objects: safe, but for construction, move and destruction.
///
/// The destructor kills the workers, waits until they are gone, and posts the handlers of operations in flight with
/// operation_aborted. Use shutdown() first to let tasks finish.
template <class Executor>
class basic_process_pool {
 public:
  using executor_type = Executor;

  /// The pool type with another executor; for as_default_on and the like.
  template <class Other>
  struct rebind_executor {
    using other = basic_process_pool<Other>;
  };

  /// Makes the pool; no worker is started yet. Throws std::invalid_argument for options that make no sense, and
  /// std::system_error if a resource is missing: errc::fork_server if the process has several threads and did not call
  /// init(), or the error of the system call that failed.
  ///
  /// A program must give up privileges before it makes its first pool: workers keep those that it had then. Closed
  /// standard streams are opened on /dev/null, so that no descriptor of the pool is mistaken for one.
  explicit basic_process_pool(const executor_type& executor, const pool_options& options = {})
      : executor_(executor), driver_(detail::pool_driver::make(executor, detail::make_engine(options))) {}

  template <class ExecutionContext>
    requires std::convertible_to<ExecutionContext&, net::execution_context&>
  explicit basic_process_pool(ExecutionContext& context, const pool_options& options = {})
      : basic_process_pool(executor_type(context.get_executor()), options) {}

  /// The pool that was moved from keeps its executor; it may be destroyed and assigned to.
  basic_process_pool(basic_process_pool&& other) noexcept
      : executor_(other.executor_), driver_(std::move(other.driver_)) {}
  basic_process_pool& operator=(basic_process_pool&& other) noexcept {
    if (this != &other) {
      close();
      executor_ = other.executor_;
      driver_ = std::move(other.driver_);
    }
    return *this;
  }
  template <class Other>
    requires(!std::same_as<Other, Executor> && std::convertible_to<Other, Executor>)
  basic_process_pool(basic_process_pool<Other>&& other)
      : executor_(other.executor_), driver_(std::move(other.driver_)) {}
  ~basic_process_pool() { close(); }

  executor_type get_executor() const noexcept { return executor_; }

  /// Runs fn(args...) in a worker: submit([task_options,] fn, args...[, token]).
  ///
  /// `fn`: a function, function pointer, lambda without captures, stateless function object, or by_value(closure). Its
  /// signature decides how each argument travels: see docs/arguments.md. Contiguous ranges that are lvalues and not
  /// arrays of shmpool are read when the operation is initiated and must live until then, or until it completes where
  /// submits wait for room (pool_options::max_pending).
  ///
  /// Completion signature: void(std::exception_ptr, R), or void(std::exception_ptr) where fn returns void; R is fn's
  /// result type. The handler is never called from inside submit().
  ///
  /// Errors: the exception that fn threw (also caught as remote_error); worker_lost; std::system_error with a code of
  /// errc; operation_aborted; std::invalid_argument or std::bad_alloc where an argument cannot be sent.
  ///
  /// Cancellation: total, partial and terminal. A task that was not started ends with operation_aborted. A running task
  /// ignores total, sees this_task::stop_requested() on partial and terminal, and on terminal is killed after its
  /// cancel_grace.
  template <class Function, class... Args>
  auto submit(Function&& fn, Args&&... args) {
    if constexpr (std::same_as<std::remove_cvref_t<Function>, task_options>) {
      return submit_with(fn, std::forward<Args>(args)...);
    } else {
      return submit_with(detail::default_options{}, std::forward<Function>(fn), std::forward<Args>(args)...);
    }
  }

  /// Runs `fn` on each element: map([task_options,] fn, range[, token]). Small elements travel together.
  ///
  /// `range`: any input range; an lvalue that is no view must live until the operation has completed. `fn` takes an
  /// element as submit() would.
  ///
  /// Completion signature: void(std::exception_ptr, std::vector<R>), results in the order of the range; no vector where
  /// fn returns void. An exception ends the map; of several the one of the first element is reported. If a task threw
  /// it, remote_error::element() says at which element.
  ///
  /// Of the task_options, `deadline` counts from here for all of the range; `timeout` and `attempts` are those of one
  /// task, which may have several elements.
  ///
  /// Cancellation: partial and terminal, as submit() for each element that was not finished; total is ignored. A
  /// cancelled map completes with operation_aborted unless all results have arrived nonetheless.
  template <class Function, class... Args>
  auto map(Function&& fn, Args&&... args) {
    if constexpr (std::same_as<std::remove_cvref_t<Function>, task_options>) {
      return map_with(fn, std::forward<Args>(args)...);
    } else {
      return map_with(task_options{}, std::forward<Function>(fn), std::forward<Args>(args)...);
    }
  }

  /// A new array in the pool's shared memory: make_array<T>(extents..., [fill value]), as shmpool::make_array. Without
  /// a fill value, elements have the values that the memory holds. Throws std::system_error(errc::shm_exhausted).
  template <class T, class... Args>
  auto make_array(Args&&... args) {
    return detail::make_array_with<T>(
        [this](std::size_t bytes, std::size_t alignment) {
          return driver_->engine().memory().allocate(bytes, alignment);
        },
        std::forward<Args>(args)...);
  }

  /// No further submits; completes when all tasks have ended, all workers have left, and the cache of segments is
  /// cleared. Submits that wait for room are let in; a map() that has elements left to submit ends with
  /// errc::pool_closed. Completion signature: void(std::exception_ptr). May be called more than once, also at the same
  /// time.
  template <class Token = detail::default_token<Executor>>
  auto shutdown(Token&& token = Token()) {
    return net::async_initiate<Token, void(std::exception_ptr)>(detail::initiate_shutdown<Executor>{driver_, executor_},
                                                                token);
  }

  /// Kills the workers now; tasks in flight complete with operation_aborted. Does not wait.
  void stop() { driver_->stop(); }

  /// Frees every segment of this pool that nobody holds and unlinks its name.
  clear_result clear_shm() { return driver_->engine().clear_shm(); }

  /// What the pool is doing. May be called every second, or every millisecond.
  pool_stats stats() const {
    const auto driver = driver_;  // the calls below run executors of handlers, whose code may destroy the pool
    return driver->stats();
  }

 private:
  template <class>
  friend class basic_process_pool;

  void close() noexcept {
    if (driver_) driver_->close();
    driver_.reset();
  }

  template <class Options, class Function, class... Args>
  auto submit_with(const Options& options, Function&& fn, Args&&... args) {
    constexpr std::size_t count = sizeof...(Args);
    if constexpr (count == 0 || detail::callable_with<Function, Args...> ||
                  detail::takes_this_many<Function, Args...>) {
      return initiate(options, detail::default_token<Executor>(), std::forward<Function>(fn),
                      std::forward<Args>(args)...);
    } else {
      return with_last_first(
          [&]<class Token, class... Rest>(Token&& token, Rest&&... rest) {
            return initiate(options, std::forward<Token>(token), std::forward<Function>(fn),
                            std::forward<Rest>(rest)...);
          },
          std::make_index_sequence<count - 1>(), std::forward_as_tuple(std::forward<Args>(args)...));
    }
  }

  template <class Call, std::size_t... Index, class... Args>
  static auto with_last_first(Call&& call, std::index_sequence<Index...>, std::tuple<Args...> args) {
    return call(std::get<sizeof...(Args) - 1>(std::move(args)), std::get<Index>(std::move(args))...);
  }

  template <class Options, class Token, class Function, class... Args>
  auto initiate(const Options& options, Token&& token, Function&& fn, Args&&... args) {
    using call = detail::task_for<Function, Args...>;
    using result_type = typename call::result_type;
    using signature = typename detail::completion_signature<result_type>::type;
    std::decay_t<Function> function(std::forward<Function>(fn));
    const auto ref = call::ref(function);
    return net::async_initiate<Token, signature>(
        detail::initiate_submit<Executor>{driver_, executor_}, token, std::move(function), ref, &call::decode_result,
        options, detail::store_arguments<Function, Args...>(std::forward<Args>(args)...));
  }

  template <class Function, class Range, class Token = detail::default_token<Executor>>
  auto map_with(const task_options& options, Function&& fn, Range&& range, Token&& token = Token()) {
    static_assert(std::ranges::input_range<Range>, "shmpool: map(fn, range[, token]) needs a range to run over");
    using view = std::views::all_t<Range>;
    using call = detail::map_call<Function, std::ranges::range_reference_t<view>>;
    using results = typename detail::map_results<typename call::result_type>::type;
    using signature = typename detail::completion_signature<results>::type;
    return net::async_initiate<Token, signature>(detail::initiate_map<Executor>{driver_, executor_}, token,
                                                 std::decay_t<Function>(std::forward<Function>(fn)), options,
                                                 std::views::all(std::forward<Range>(range)));
  }

  executor_type executor_;
  std::shared_ptr<detail::pool_driver> driver_;
};

using process_pool = basic_process_pool<net::any_io_executor>;

}  // namespace SHMPOOL_ASIO_ABI
}  // namespace shmpool
