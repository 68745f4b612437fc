// Callables that can be submitted: function pointers, stateless function objects and by_value() closures. A callable
// and its arguments determine the parameter types, the result type, and the trampoline that makes the call in the
// worker.
//
// Thread safety: pure functions; messages as packer and unpacker.
#pragma once

#include <shmpool/by_value.hpp>
#include <shmpool/detail/callable_ref.hpp>
#include <shmpool/detail/codec/codec.hpp>
#include <shmpool/detail/codec/message.hpp>
#include <shmpool/detail/codec/signature.hpp>

#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

namespace shmpool::detail {

/// The decoded arguments of one call. They are read in order, and stay in place until the result has been written,
/// which may refer to them.
template <class Indices, class... P>
struct received_arguments;

template <std::size_t Index, class P>
struct received_argument {
  explicit received_argument(unpacker& from) : held(parameter_codec<P>::get(from)) {}
  typename parameter_codec<P>::holder held;
};

template <std::size_t... Index, class... P>
struct received_arguments<std::index_sequence<Index...>, P...> : received_argument<Index, P>... {
  explicit received_arguments([[maybe_unused]] unpacker& from) : received_argument<Index, P>(from)... {}

  template <class F>
  decltype(auto) call(F& function) {
    return function(parameter_codec<P>::pass(received_argument<Index, P>::held)...);
  }
};

/// One function in the worker: `run` is its trampoline.
template <class Callable, class R, class... P>
struct task {
  static void run(invocation& call) {
    decltype(auto) function = callable_kind<Callable>::receive(call);
    received_arguments<std::index_sequence_for<P...>, P...> arguments(call.arguments);
    if (call.arguments.remaining() != 0) throw_protocol_violation("more arguments than the function takes");
    if constexpr (std::is_void_v<R>) {
      arguments.call(function);
    } else {
      result_codec<R>::put(call.result, arguments.call(function));
    }
  }
};

template <class Callable, class R, class Parameters>
struct task_of;
template <class Callable, class R, class... P>
struct task_of<Callable, R, type_list<P...>> {
  using type = task<Callable, R, P...>;
  using parameters = std::tuple<P...>;
};

/// The task that submit(function, args...) runs. F and Args as forwarded (lvalue references for lvalues). Does not
/// compile, and says why, unless callable_with<F, Args...>.
template <class F, class... Args>
struct task_for {
 private:
  static_assert((require_call<F, Args...>(), true));
  using callable = std::decay_t<F>;
  using deduced = signature_for<callable, Args...>;
  using call = task_of<callable, typename deduced::result, typename deduced::parameters>;

 public:
  /// The type of the operation's result: void, or a type without reference or const.
  using result_type = std::remove_cv_t<typename deduced::result>;
  /// std::tuple of the parameter types, as the function declares them.
  using parameters = typename call::parameters;

  static callable_ref ref(const callable& function) noexcept {
    return {.entry = &call::type::run, .target = callable_kind<callable>::target(function)};
  }
  /// Throws protocol_violation unless the message is one result.
  static result_type decode_result(unpacker& from) { return result_codec<result_type>::get(from); }
};

template <class Parameters, class... Args>
struct stored_for;
template <class... P, class... Args>
struct stored_for<type_list<P...>, Args...> {
  using type = std::tuple<stored_argument<P, Args>...>;
  static type store(Args&&... args) {
    return type{stored_argument<P, Args>{parameter_codec<P>::template store<Args>(std::forward<Args>(args))}...};
  }
};

/// The arguments as they are kept until the operation is initiated; parameter_codec.hpp says how each is kept.
template <class F, class... Args>
auto store_arguments(Args&&... args) {
  require_call<F, Args...>();
  using signature = signature_for<std::decay_t<F>, Args...>;
  return stored_for<typename signature::parameters, Args...>::store(std::forward<Args>(args)...);
}

/// Writes the closure, if there is one to write, and the arguments. Afterwards the arguments are of no further use.
/// Throws std::invalid_argument for an array that cannot be lent for writing, std::system_error(errc::shm_exhausted),
/// and what user code throws; discard the packer then.
template <class F, class... P, class... Args>
void encode_arguments(packer& to, const F& function, std::tuple<stored_argument<P, Args>...>&& arguments) {
  callable_kind<F>::put(to, function);
  [&]<std::size_t... Index>(std::index_sequence<Index...>) {
    (parameter_codec<P>::put(to, std::get<Index>(arguments).value), ...);
  }(std::index_sequence_for<P...>{});
}

}  // namespace shmpool::detail
