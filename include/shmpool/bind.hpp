// bind: a function with its arguments, for pool_options::initializer and finalizer.
//
// Thread safety: may be called from any thread.
#pragma once

#include <shmpool/bound_function.hpp>
#include <shmpool/detail/codec/callable.hpp>

#include <cstddef>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>

namespace shmpool {

namespace detail {

/// Provides no shared memory: all bound arguments travel in the message.
class no_shared_memory final : public segment_source {
 public:
  shm_handle allocate(std::size_t bytes, std::size_t alignment) override {
    return shm_handle(make_heap_segment(bytes, alignment));
  }
  bool can_lend(const shm_handle&) const noexcept override { return false; }
};

/// Parameters whose purpose is to share memory.
template <class P>
inline constexpr bool shares_memory = is_array<P>;
template <class T, std::size_t Extent>
inline constexpr bool shares_memory<std::span<T, Extent>> = !std::is_const_v<T>;

template <class Callable, class Parameters>
struct bound_task;
template <class Callable, class... P>
struct bound_task<Callable, type_list<P...>> {
  static_assert(
      !(shares_memory<std::remove_cvref_t<P>> || ...),
      "shmpool: an initializer or finalizer has its arguments by value, and an array is there to be shared: take "
      "std::vector<T> or std::span<const T> instead");

  /// The trampoline. The function's result is dropped.
  static void run(invocation& call) {
    decltype(auto) function = callable_kind<Callable>::receive(call);
    received_arguments<std::index_sequence_for<P...>, P...> arguments(call.arguments);
    if (call.arguments.remaining() != 0) throw_protocol_violation("more arguments than the function takes");
    static_cast<void>(arguments.call(function));
  }
};

struct binder {
  template <class F, class... Args>
  bound_function operator()(F&& function, Args&&... args) const {
    using callable = std::decay_t<F>;
    require_ok<callable_kind<callable>::judge(), callable>();
    if constexpr (callable_kind<callable>::judge() == verdict::ok) {
      if constexpr (requires { typename signature_for<callable, Args...>::parameters; }) {
        using parameters = typename signature_for<callable, Args...>::parameters;
        using judge = argument_judge<parameters, Args...>;
        judge::require();
        if constexpr (judge::all_ok()) {
          no_shared_memory memory;
          packer to(memory, std::numeric_limits<std::size_t>::max());
          const callable called = std::forward<F>(function);
          encode_arguments(to, called, stored_for<parameters, Args...>::store(std::forward<Args>(args)...));
          return bound_function(bound_call{.code = {.entry = &bound_task<callable, parameters>::run,
                                                    .target = callable_kind<callable>::target(called)},
                                           .arguments = std::move(to.bytes())});
        }
      } else {
        require_ok<verdict::not_invocable, callable, Args...>();
      }
    }
  }
};

}  // namespace detail

/// A function with arguments, to be called in each worker: `.initializer = shmpool::bind(load_model, path, 3)`.
///
/// The function is one that can be submitted as a task: a function pointer, a captureless lambda, a by_value() closure.
/// The arguments are those of a task, except arrays. They are serialized here and now, and each worker has its own
/// copy; a std::vector or a string may have any size up to 1 GiB. The function's result is dropped. Throws the
/// exceptions of serializing the arguments.
///
/// (An object, so that argument-dependent lookup does not find std::bind for arguments from namespace std.)
///
/// A call does not compile, and says why, if the function or an argument cannot be sent.
inline constexpr detail::binder bind{};

}  // namespace shmpool
