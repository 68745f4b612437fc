// The asynchronous operations of a pool: submit and shutdown, and the parts that they share.
//
// Thread safety: initiations may run on any thread.
#pragma once

#include <shmpool/asio.hpp>
#include <shmpool/detail/asio/pending_handler.hpp>
#include <shmpool/detail/asio/permit.hpp>
#include <shmpool/detail/asio/pool_driver.hpp>
#include <shmpool/detail/codec/callable.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace shmpool::detail {
inline namespace SHMPOOL_ASIO_ABI {

template <class Result>
struct completion_signature {
  using type = void(std::exception_ptr, Result);
};
template <>
struct completion_signature<void> {
  using type = void(std::exception_ptr);
};

/// The strongest kind that `type` asks for, if any.
inline std::optional<cancel_kind> kind_of(net::cancellation_type type) noexcept {
  const auto has = [type](net::cancellation_type bit) { return (type & bit) != net::cancellation_type::none; };
  if (has(net::cancellation_type::terminal)) return cancel_kind::terminal;
  if (has(net::cancellation_type::partial)) return cancel_kind::partial;
  if (has(net::cancellation_type::total)) return cancel_kind::total;
  return std::nullopt;
}

/// Handler of a cancellation slot. The signal may be emitted on any thread, so the handler only posts.
struct slot_handler {
  std::weak_ptr<pool_driver> driver;
  std::uint64_t key;

  void operator()(net::cancellation_type type) const {
    const auto kind = kind_of(type);
    const auto alive = driver.lock();
    if (!kind || !alive || alive->context_gone()) return;
    net::post(alive->executor(), [alive, which = key, how = *kind] { alive->cancel(which, how); });
  }
};

/// Connects an operation to the slot of its handler, if there is one.
template <class Handler>
void install_cancellation(operation& op, const Handler& handler, const std::shared_ptr<pool_driver>& driver) {
  auto slot = net::get_associated_cancellation_slot(handler);
  if (!slot.is_connected()) return;
  op.cancel_key = next_cancel_key();
  slot.assign(slot_handler{driver, op.cancel_key});
}

/// The operation of submit() and shutdown(). `Result` is the handler's argument after the std::exception_ptr; void:
/// none.
template <class Result, class Handler, class Executor>
class handler_operation final : public operation {
 public:
  using handler_type = Handler;
  using decoder = Result (*)(unpacker&);
  using memory = operation_memory<handler_operation, Handler>;

  handler_operation(Handler&& handler, const Executor& executor, decoder decode)
      : pending_(std::move(handler), executor), decode_(decode) {}

  const Handler& handler() const noexcept { return pending_.handler(); }

  void complete(delivery how) override {
    std::exception_ptr error = error_of(result);
    const bool owns_slot = cancel_key != 0;
    if constexpr (std::is_void_v<Result>) {
      if (!error && decode_) error = decode_nothing();
      auto pending = release();
      std::move(pending).complete(how, owns_slot, std::move(error));
    } else {
      Result value{};
      if (!error) {
        try {
          unpacker from(result.bytes, result.attachments);
          value = decode_(from);
          if (from.remaining() != 0) throw_protocol_violation("more bytes than the result has");
        } catch (...) {
          error = std::current_exception();
          value = Result{};
        }
      }
      auto pending = release();
      std::move(pending).complete(how, owns_slot, std::move(error), std::move(value));
    }
  }

  void destroy() noexcept override { release(); }

 private:
  std::exception_ptr decode_nothing() const noexcept {
    if (result.bytes.empty()) return nullptr;
    try {
      throw_protocol_violation("a result where there should be none");
    } catch (...) {
      return std::current_exception();
    }
  }

  pending_handler<Handler, Executor> release() noexcept {
    pending_handler<Handler, Executor> pending(std::move(pending_));
    memory::free(this, pending.handler());
    return pending;
  }

  pending_handler<Handler, Executor> pending_;
  decoder decode_;
};

/// In place of task_options, for a submit without any: there is nothing to copy.
struct default_options {
  operator const task_options&() const {
    static const task_options* const none = new task_options;  // destructors at the end of the process may submit
    return *none;
  }
};

/// What `step` throws, or null. The exception is no longer being handled then, so an operation may carry it to another
/// thread: the end of a catch block touches its exception.
template <class Step>
std::exception_ptr thrown_by(Step step) {
  try {
    step();
    return nullptr;
  } catch (...) {
    return std::current_exception();
  }
}

/// Completes an operation that the engine has not taken.
template <class Operation>
void fail(Operation* op, std::exception_ptr why) {
  op->result.error = std::move(why);
  op->complete(delivery::post);
}

/// Packs the arguments and submits. A failure completes the operation.
template <class Operation, class Function, class Arguments>
void pack_and_submit(pool_driver& driver, Operation* op, const Function& function, callable_ref callable,
                     const task_options& options, Arguments&& arguments, permit with) {
  flush_hint next = flush_hint::none;
  std::exception_ptr failure = thrown_by([&] {
    driver.expect_end();
    packer message(driver.engine().memory(), driver.engine().inline_limit());
    encode_arguments(message, function, std::forward<Arguments>(arguments));
    next = driver.engine().submit(*op, callable, std::move(message.bytes()), std::move(message.attachments()), options,
                                  with.number());
    with.spent();
  });
  if (!failure) return driver.follow(next);
  fail(op, std::move(failure));
  driver.expect_no_end();
}

/// A submit that waits for room: its arguments, which are packed when there is room.
template <class Operation, class Function, class Options, class Arguments>
class held_submit final : public operation {
 public:
  using memory = operation_memory<held_submit, typename Operation::handler_type>;

  held_submit(Operation* op, std::shared_ptr<pool_driver> driver, Function&& function, callable_ref callable,
              Options&& options, Arguments&& arguments)
      : op_(op),
        driver_(std::move(driver)),
        function_(std::move(function)),
        callable_(callable),
        options_(std::move(options)),
        arguments_(std::move(arguments)) {
    cancel_key = op->cancel_key;
    deadline = op->deadline;
  }

  /// There is room now, or the wait for room has failed.
  void complete(delivery how) override {
    if (result.permit != 0) return proceed(permit(driver_, *this, result.permit));
    op_->result = std::move(result);
    abandon()->complete(how);
  }

  void destroy() noexcept override { abandon()->destroy(); }

  /// Submits with the permit. *this is gone when proceed() returns.
  void proceed(permit with) {
    const auto driver = std::move(driver_);
    const Function function = std::move(function_);
    const callable_ref callable = callable_;
    const Options options = std::move(options_);
    Arguments arguments = std::move(arguments_);
    // Before the submit: the task may end on another thread, which destroys the handler and its allocator.
    Operation* op = abandon();
    pack_and_submit(*driver, op, function, callable, options, std::move(arguments), std::move(with));
  }

  /// Frees *this but not the operation, which the caller then owns.
  Operation* abandon() noexcept {
    Operation* op = op_;
    memory::free(this, op->handler());
    return op;
  }

 private:
  Operation* op_;  // owned
  std::shared_ptr<pool_driver> driver_;
  Function function_;
  callable_ref callable_;
  Options options_;
  Arguments arguments_;
};

/// The initiation of submit().
template <class Executor>
struct initiate_submit {
  using executor_type = Executor;
  std::shared_ptr<pool_driver> driver;
  Executor executor;
  executor_type get_executor() const noexcept { return executor; }

  template <class Handler, class Function, class Decoder, class Options, class Arguments>
  void operator()(Handler&& handler, Function function, callable_ref callable, Decoder decode, Options options,
                  Arguments arguments) const {
    using result_type = std::invoke_result_t<Decoder, unpacker&>;
    using handler_type = std::decay_t<Handler>;
    using operation_type = handler_operation<result_type, handler_type, Executor>;
    driver->require_context();
    handler_type own(std::forward<Handler>(handler));
    operation_type* op = operation_type::memory::make(own, std::move(own), executor, decode);
    std::exception_ptr failure = thrown_by([&] {
      const task_options& chosen = options;
      op->deadline = deadline_after(chosen.deadline);
      install_cancellation(*op, op->handler(), driver);
    });
    if (failure) return fail(op, std::move(failure));
    if (!driver->engine().has_admission_limit()) {
      return pack_and_submit(*driver, op, function, callable, options, std::move(arguments), {});
    }
    using held_type = held_submit<operation_type, Function, Options, Arguments>;
    held_type* held = nullptr;
    std::uint64_t number = 0;
    flush_hint next = flush_hint::none;
    failure = thrown_by([&] {
      held = held_type::memory::make(op->handler(), op, driver, std::move(function), callable, std::move(options),
                                     std::move(arguments));
      driver->expect_end();
      next = driver->engine().acquire(*held, number);
    });
    if (failure) {
      if (held) held->abandon();
      fail(op, std::move(failure));
      return driver->expect_no_end();
    }
    driver->follow(next);
    if (number != 0) held->proceed(permit(driver, *held, number));
  }
};

/// The initiation of shutdown().
template <class Executor>
struct initiate_shutdown {
  using executor_type = Executor;
  std::shared_ptr<pool_driver> driver;
  Executor executor;
  executor_type get_executor() const noexcept { return executor; }

  template <class Handler>
  void operator()(Handler&& handler) const {
    using handler_type = std::decay_t<Handler>;
    using operation_type = handler_operation<void, handler_type, Executor>;
    driver->require_context();
    handler_type own(std::forward<Handler>(handler));
    operation_type* op = operation_type::memory::make(own, std::move(own), executor, nullptr);
    if (std::exception_ptr failure = thrown_by([&] { driver->expect_end(); })) return fail(op, std::move(failure));
    driver->engine().shutdown(*op);
    driver->follow(flush_hint::now);
  }
};

}  // namespace SHMPOOL_ASIO_ABI
}  // namespace shmpool::detail
