// The operation behind map(): cuts the range into chunks, keeps the workers supplied, puts the results in order.
//
// Thread safety: chunks may come back on any thread. One thread at a time changes the state, without a lock: the range,
// the function, packing and unpacking run user code.
#pragma once

#include <shmpool/asio.hpp>
#include <shmpool/detail/asio/one_at_a_time.hpp>
#include <shmpool/detail/asio/permit.hpp>
#include <shmpool/detail/asio/submit_operation.hpp>
#include <shmpool/detail/codec/map_chunk.hpp>
#include <shmpool/detail/run_mean.hpp>
#include <shmpool/remote_error.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

namespace shmpool::detail {
inline namespace SHMPOOL_ASIO_ABI {

/// Sets the index of the element in `error`, if a task threw it.
inline std::exception_ptr at_element(std::exception_ptr error, std::size_t index) noexcept {
  try {
    std::rethrow_exception(std::move(error));
  } catch (remote_error& thrown) {
    thrown.set_element(index);
    return std::current_exception();
  } catch (...) {
    return std::current_exception();
  }
}

template <class R>
struct map_results {
  using type = std::vector<R>;
};
template <>
struct map_results<void> {
  using type = void;
};

template <class Function, class View, class Handler, class Executor>
class map_state : public std::enable_shared_from_this<map_state<Function, View, Handler, Executor>> {
 public:
  using item = std::ranges::range_reference_t<View>;
  using call = map_call<Function, item>;
  using result_type = typename call::result_type;
  using results_type = typename map_results<result_type>::type;

  map_state(pending_handler<Handler, Executor>&& pending, std::shared_ptr<pool_driver> driver, Function function,
            const task_options& options, std::chrono::steady_clock::time_point deadline, View range)
      : pending_(std::move(pending)),
        driver_(std::move(driver)),
        function_(std::move(function)),
        options_(options),
        deadline_(deadline),
        range_(std::move(range)) {}

  const Handler& handler() const noexcept { return pending_->handler(); }
  bool context_gone() const noexcept { return driver_->context_gone(); }
  bool owns_slot = false;

  /// Takes in the chunks that have come back and submits as many as may be in flight; completes if there is nothing
  /// (left) to do.
  void proceed(delivery how) {
    const auto self = this->shared_from_this();
    std::optional<pending_handler<Handler, Executor>> pending;
    work_.run([&] {
      step();
      // Only one thread gets here, and only once.
      if (in_flight_.empty() && pending_ && (stopped_ || exhausted_)) {
        pending.emplace(std::move(*pending_));
        pending_.reset();
      }
    });
    if (pending) finish(std::move(*pending), how);
  }

  /// Submits no more, and cancels the chunks in flight. Total is ignored: it promises that nothing has run, which
  /// nobody can say of several tasks at once.
  void cancel(cancel_kind kind) {
    if (kind == cancel_kind::total) return;
    {
      std::lock_guard lock(inbox_mutex_);
      cancelled_ = std::max(cancelled_.value_or(kind), kind);
    }
    proceed(delivery::dispatch);
  }

 private:
  /// One chunk in flight. If the pool has a bound, the chunk first waits for room, and then takes its elements.
  class chunk final : public operation {
   public:
    explicit chunk(std::shared_ptr<map_state> state) : state_(std::move(state)) { cancel_key = next_cancel_key(); }

    void complete(delivery how) override {
      if (how == delivery::dispatch) return arrive();
      net::post(state_->driver_->executor(), [self = owner(this)] { self.release()->arrive(); });
    }
    void destroy() noexcept override { delete this; }

    std::size_t first = 0;
    std::uint32_t count = 0;

   private:
    /// Frees the chunk if the posted function is destroyed without being called.
    struct owner {
      explicit owner(chunk* which) noexcept : which_(which) {}
      owner(owner&& other) noexcept : which_(std::exchange(other.which_, nullptr)) {}
      owner(const owner&) = delete;
      owner& operator=(const owner&) = delete;
      ~owner() { delete which_; }
      chunk* release() const noexcept { return std::exchange(which_, nullptr); }
      mutable chunk* which_;
    };

    void arrive() {
      const auto state = state_;  // its inbox owns *this from here on
      {
        std::lock_guard lock(state->inbox_mutex_);
        state->inbox_.push(*this);
      }
      state->proceed(delivery::dispatch);
    }

    std::shared_ptr<map_state> state_;
  };

  void step() {
    completion_list arrived;
    std::optional<cancel_kind> cancelled;
    {
      std::lock_guard lock(inbox_mutex_);
      arrived = std::move(inbox_);
      cancelled = std::exchange(cancelled_, std::nullopt);
    }
    flush_hint what = flush_hint::none;
    while (operation* each = arrived.pop()) {
      std::unique_ptr<chunk> self(static_cast<chunk*>(each));
      if (self->result.permit != 0) {
        permit got(driver_, *self, std::exchange(self->result.permit, 0));
        what = std::max(what, use(std::move(got), std::move(self)));
      } else {
        take(*self);
      }
    }
    if (cancelled) {
      stopped_ = true;
      for (const std::uint64_t key : in_flight_) what = std::max(what, driver_->engine().cancel(key, *cancelled));
    }
    if (!pending_) return;  // completed; the range may be gone
    try {
      if (!next_) next_.emplace(std::ranges::begin(range_));
      const std::size_t most = 2 * std::size_t{driver_->engine().max_workers()};
      while (!stopped_ && in_flight_.size() < most && *next_ != std::ranges::end(range_)) {
        what = std::max(what, start_chunk());
      }
      exhausted_ = *next_ == std::ranges::end(range_);
    } catch (...) {
      fail(std::current_exception(), index_);  // the range itself threw
    }
    driver_->follow(what);
  }

  /// How many elements the next task takes: about half a millisecond's worth, and small enough that the end of the
  /// range is shared out.
  std::size_t chunk_size() const {
    if (per_item_.get() == per_item_.unknown) return 1;
    constexpr std::chrono::nanoseconds target = std::chrono::microseconds(500);
    auto size = static_cast<std::size_t>(
        std::clamp<std::int64_t>(target / std::max(per_item_.get(), std::chrono::nanoseconds(1)), 1, 1024));
    if constexpr (std::ranges::sized_range<View>) {
      const std::size_t left = static_cast<std::size_t>(std::ranges::size(range_)) - index_;
      size = std::min(size, left / (2 * std::size_t{driver_->engine().max_workers()}) + 1);
    }
    return size;
  }

  flush_hint start_chunk() {
    auto made = std::make_unique<chunk>(this->shared_from_this());
    made->deadline = deadline_;
    in_flight_.push_back(made->cancel_key);
    if (!driver_->engine().has_admission_limit()) return fill(std::move(made), {});
    std::uint64_t number = 0;
    flush_hint what = flush_hint::none;
    try {
      driver_->expect_end();
      what = driver_->engine().acquire(*made, number);
    } catch (...) {
      give_up(*made, index_);
      return flush_hint::none;
    }
    if (number != 0) {
      permit got(driver_, *made, number);
      return std::max(what, fill(std::move(made), std::move(got)));
    }
    (void)made.release();  // the engine has it while it waits
    return what;
  }

  /// There is room for one more chunk; there may be nothing left to put into it.
  flush_hint use(permit got, std::unique_ptr<chunk> made) {
    bool wanted = !stopped_;
    try {
      wanted = wanted && *next_ != std::ranges::end(range_);
    } catch (...) {
      fail(std::current_exception(), index_);
      wanted = false;
    }
    if (wanted) return fill(std::move(made), std::move(got));
    std::erase(in_flight_, made->cancel_key);
    return flush_hint::none;
  }

  /// Takes elements and submits them.
  flush_hint fill(std::unique_ptr<chunk> made, permit with) {
    const std::size_t first = index_;
    try {
      driver_->expect_end();
      const std::size_t wanted = chunk_size();
      packer message(driver_->engine().memory(), driver_->engine().inline_limit());
      callable_kind<Function>::put(message, function_);
      const std::size_t count_at = message.bytes().size();
      message.put(std::uint32_t{0});
      std::uint32_t count = 0;
      // A chunk that has become large takes no further elements; one it takes in any case, or a large function would
      // leave no room for any.
      const auto is_large = [&] { return message.bytes().size() >= 256 * 1024 || message.attachments().size() >= 64; };
      while (count != wanted && *next_ != std::ranges::end(range_) && (count == 0 || !is_large())) {
        auto stored = store_arguments<Function, item>(**next_);
        parameter_codec<typename call::parameter>::put(message, std::get<0>(stored).value);
        ++*next_;
        ++index_;
        ++count;
      }
      std::memcpy(message.bytes().data() + count_at, &count, sizeof count);
      made->first = first;
      made->count = count;
      const flush_hint what = driver_->engine().submit(*made, call::ref(function_), std::move(message.bytes()),
                                                       std::move(message.attachments()), options_, with.number());
      with.spent();
      (void)made.release();
      return what;
    } catch (...) {
      give_up(*made, first);
      return flush_hint::none;
    }
  }

  /// Ends the map with the current exception: the engine has not taken the chunk, whose first element is `element`.
  void give_up(const chunk& made, std::size_t element) noexcept {
    std::erase(in_flight_, made.cancel_key);
    fail(std::current_exception(), element);
    driver_->expect_no_end();
  }

  void fail(std::exception_ptr error, std::size_t element) noexcept {
    // Of several errors, the one that comes first in the range is reported.
    if (!error_ || element < error_element_) {
      error_ = std::move(error);
      error_element_ = element;
    }
    stopped_ = true;
  }

  void take(chunk& arrived) {
    std::erase(in_flight_, arrived.cancel_key);
    const outcome& result = arrived.result;
    if (result.aborted) {
      aborted_ = stopped_ = true;
      return;
    }
    if (std::exception_ptr error = error_in(result)) return fail(std::move(error), arrived.first);
    per_item_.add(result.run / std::max<std::int64_t>(arrived.count, 1));
    std::size_t element = arrived.first;
    try {
      unpacker from(result.bytes, result.attachments);
      for (std::uint32_t i = 0; i != arrived.count; ++i, ++element) {
        if (from.get<std::uint8_t>() == 0) {
          return fail(at_element(decode_exception(from.take(from.remaining()), result.worker_pid), element), element);
        }
        const auto length = from.get<std::uint64_t>();
        unpacker value(from.take(static_cast<std::size_t>(length)), result.attachments);
        if constexpr (std::is_void_v<result_type>) {
          result_codec<void>::get(value);
        } else {
          if (results_.size() <= element) results_.resize(element + 1);
          results_[element] = result_codec<result_type>::get(value);
        }
      }
      if (from.remaining() != 0) throw_protocol_violation("more results than elements");
    } catch (...) {
      fail(std::current_exception(), element);
    }
  }

  void finish(pending_handler<Handler, Executor>&& pending, delivery how) {
    // A map that was cancelled still succeeds if all results have arrived.
    const bool aborted = aborted_ || !exhausted_;
    std::exception_ptr error = error_;
    if (!error && aborted) error = std::make_exception_ptr(net_system_error(net::error::operation_aborted));
    if constexpr (std::is_void_v<result_type>) {
      std::move(pending).complete(how, owns_slot, std::move(error));
    } else {
      if (error) results_.clear();
      std::move(pending).complete(how, owns_slot, std::move(error), std::move(results_));
    }
  }

  using results_storage = std::conditional_t<std::is_void_v<results_type>, char, results_type>;

  std::mutex inbox_mutex_;  // guards the next two, and is held for nothing else
  completion_list inbox_;   // chunks that have come back
  std::optional<cancel_kind> cancelled_;
  one_at_a_time work_;  // the thread that runs it owns the members below
  std::optional<pending_handler<Handler, Executor>> pending_;
  std::shared_ptr<pool_driver> driver_;
  Function function_;
  task_options options_;
  std::chrono::steady_clock::time_point deadline_;
  View range_;
  std::optional<std::ranges::iterator_t<View>> next_;
  std::size_t index_ = 0;  // of *next_
  std::vector<std::uint64_t> in_flight_;
  recent_run_mean per_item_;
  results_storage results_{};
  std::exception_ptr error_;
  std::size_t error_element_ = 0;
  bool exhausted_ = false;  // the whole range was submitted
  bool stopped_ = false;    // nothing more is to be submitted
  bool aborted_ = false;    // a task was aborted
};

/// The initiation of map().
template <class Executor>
struct initiate_map {
  using executor_type = Executor;
  std::shared_ptr<pool_driver> driver;
  Executor executor;
  executor_type get_executor() const noexcept { return executor; }

  template <class Handler, class Function, class View>
  void operator()(Handler&& handler, Function function, task_options options, View range) const {
    using handler_type = std::decay_t<Handler>;
    using state_type = map_state<Function, View, handler_type, Executor>;
    driver->require_context();
    handler_type own(std::forward<Handler>(handler));
    pending_handler<handler_type, Executor> pending(std::move(own), executor);
    std::chrono::steady_clock::time_point deadline;
    if (std::exception_ptr failure = thrown_by([&] { deadline = deadline_after(options.deadline); })) {
      return fail_now<state_type>(std::move(pending), std::move(failure));
    }
    auto state = std::make_shared<state_type>(std::move(pending), driver, std::move(function), options, deadline,
                                              std::move(range));
    auto slot = net::get_associated_cancellation_slot(state->handler());
    if (slot.is_connected()) {
      state->owns_slot = true;
      slot.assign([weak = std::weak_ptr(state), executor = driver->executor()](net::cancellation_type type) {
        const auto alive = weak.lock();
        const auto kind = kind_of(type);
        if (!alive || !kind || alive->context_gone()) return;
        net::post(executor, [alive, which = *kind] { alive->cancel(which); });
      });
    }
    state->proceed(delivery::post);
  }

 private:
  template <class State, class Handler>
  static void fail_now(pending_handler<Handler, Executor>&& pending, std::exception_ptr error) {
    using results = typename State::results_type;
    if constexpr (std::is_void_v<results>) std::move(pending).complete(delivery::post, false, std::move(error));
    else std::move(pending).complete(delivery::post, false, std::move(error), results{});
  }
};

}  // namespace SHMPOOL_ASIO_ABI
}  // namespace shmpool::detail
