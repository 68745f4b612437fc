// A completion handler that is to be called, with outstanding work on its executor, and on the pool's if that is
// another. The work keeps both contexts running until the call.
//
// Thread safety: none; it belongs to one operation.
#pragma once

#include <shmpool/asio.hpp>
#include <shmpool/detail/engine.hpp>

#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

namespace shmpool::detail {
inline namespace SHMPOOL_ASIO_ABI {

/// Clears the handler's cancellation slot, if it was used, then calls the handler.
template <class Handler, class... Results>
void call_handler(Handler& handler, bool owns_slot, Results&... results) {
  if (owns_slot) {
    auto slot = net::get_associated_cancellation_slot(handler);
    if (slot.is_connected()) slot.clear();
  }
  std::move(handler)(std::move(results)...);
}

/// The function that runs on the handler's executor.
template <class Handler, class... Results>
struct bound_completion {
  Handler handler;
  bool owns_slot;
  std::tuple<Results...> results;

  using allocator_type = net::associated_allocator_t<Handler>;
  allocator_type get_allocator() const noexcept { return net::get_associated_allocator(handler); }

  void operator()() {
    std::apply([this](Results&... each) { call_handler(handler, owns_slot, each...); }, results);
  }
};

template <class Executor>
auto track(const Executor& executor) {
  if constexpr (net::execution::is_executor<Executor>::value) {
    return net::prefer(executor, net::execution::outstanding_work.tracked);
  } else {
    return net::executor_work_guard<Executor>(executor);
  }
}

/// An executor that keeps its context running. net::executor_work_guard does the same with two copies of the executor,
/// which would be most of the memory of a queued task.
template <class Executor>
class working_executor {
 public:
  explicit working_executor(const Executor& executor) : held_(track(executor)) {}

  auto get_executor() const noexcept {
    if constexpr (net::execution::is_executor<Executor>::value) {
      return held_;
    } else {
      return held_.get_executor();
    }
  }

 private:
  decltype(track(std::declval<const Executor&>())) held_;
};

template <class Handler, class Executor>
class pending_handler {
 public:
  pending_handler(Handler&& handler, const Executor& executor)
      : pending_handler(std::move(handler), net::get_associated_executor(handler, executor), executor) {}
  pending_handler(pending_handler&&) = default;
  pending_handler& operator=(pending_handler&&) = delete;

  const Handler& handler() const noexcept { return handler_; }

  /// Calls the handler; the operation's memory must be free already. `owns_slot`: a cancellation handler was installed.
  template <class... Results>
  void complete(delivery how, bool owns_slot, Results... results) && {
    // From the loop this runs on the pool's executor; dispatch() on the same one would call at once.
    if (how == delivery::dispatch && !pool_work_) return call_handler(handler_, owns_slot, results...);
    bound_completion<Handler, Results...> bound{std::move(handler_), owns_slot, {std::move(results)...}};
    const auto executor = handler_work_.get_executor();
    if (how == delivery::dispatch) net::dispatch(executor, std::move(bound));
    else net::post(executor, std::move(bound));
  }

 private:
  using handler_executor = net::associated_executor_t<Handler, Executor>;

  pending_handler(Handler&& handler, const handler_executor& own, const Executor& pool)
      : handler_work_(own), handler_(std::move(handler)) {
    if constexpr (std::is_same_v<handler_executor, Executor>) {
      if (own == pool) return;
    }
    pool_work_.emplace(pool);
  }

  working_executor<handler_executor> handler_work_;
  std::optional<working_executor<Executor>> pool_work_;  // if the pool's executor is another
  Handler handler_;                                      // destroyed before the work ends
};

/// Memory for an operation, from its handler's allocator; the operation frees it before the handler is called.
template <class Operation, class Handler>
class operation_memory {
 public:
  using allocator =
      typename std::allocator_traits<net::associated_allocator_t<Handler>>::template rebind_alloc<Operation>;

  template <class... Args>
  static Operation* make(const Handler& handler, Args&&... args) {
    allocator from(net::get_associated_allocator(handler));
    Operation* memory = std::allocator_traits<allocator>::allocate(from, 1);
    try {
      return ::new (static_cast<void*>(memory)) Operation(std::forward<Args>(args)...);
    } catch (...) {
      std::allocator_traits<allocator>::deallocate(from, memory, 1);
      throw;
    }
  }

  static void free(Operation* operation, const Handler& handler) noexcept {
    allocator to(net::get_associated_allocator(handler));
    operation->~Operation();
    std::allocator_traits<allocator>::deallocate(to, operation, 1);
  }
};

/// The error of a failed operation as the handler gets it.
inline std::exception_ptr error_of(const outcome& result) {
  if (result.aborted) return std::make_exception_ptr(net_system_error(net::error::operation_aborted));
  return error_in(result);
}

}  // namespace SHMPOOL_ASIO_ABI
}  // namespace shmpool::detail
