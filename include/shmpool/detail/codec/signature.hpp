// Which parameters a callable takes. A callable with a single signature says so itself; the parameters of generic and
// overloaded function objects follow from the arguments.
//
// Thread safety: nothing happens at run time but the copying of closures.
#pragma once

#include <shmpool/by_value.hpp>
#include <shmpool/detail/codec/codec.hpp>
#include <shmpool/detail/codec/message.hpp>
#include <shmpool/detail/codec/verdict.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <type_traits>
#include <utility>

namespace shmpool::detail {

template <class... T>
struct type_list {
  static constexpr std::size_t size = sizeof...(T);
};

// ---- Signatures of functions and of operator().

template <class F>
struct fixed_signature;
template <class R, class... P, bool NoExcept>
struct fixed_signature<R (*)(P...) noexcept(NoExcept)> {
  using result = R;
  using parameters = type_list<P...>;
};
template <class R, class C, class... P, bool NoExcept>
struct fixed_signature<R (C::*)(P...) noexcept(NoExcept)> : fixed_signature<R (*)(P...)> {};
template <class R, class C, class... P, bool NoExcept>
struct fixed_signature<R (C::*)(P...) const noexcept(NoExcept)> : fixed_signature<R (*)(P...)> {};
template <class R, class C, class... P, bool NoExcept>
struct fixed_signature<R (C::*)(P...) & noexcept(NoExcept)> : fixed_signature<R (*)(P...)> {};
template <class R, class C, class... P, bool NoExcept>
struct fixed_signature<R (C::*)(P...) const & noexcept(NoExcept)> : fixed_signature<R (*)(P...)> {};

// ---- The kinds of callables: how each is judged, written in front of the arguments, and received in the worker.

template <class F>
struct function_object {
  static constexpr bool has_fixed_signature = requires { typename fixed_signature<decltype(&F::operator())>::result; };
  /// The type that is called.
  using object = F;
};

template <class F>
struct callable_kind : function_object<F> {  // function objects
  static constexpr verdict judge() {
    if constexpr (std::is_member_pointer_v<F>) {
      return verdict::member_pointer;
    } else if constexpr (!std::is_class_v<F>) {
      return verdict::not_a_function;
    } else if constexpr (!std::is_empty_v<F> ||
                         !(std::is_default_constructible_v<F> || std::is_trivially_copyable_v<F>)) {
      return verdict::stateful_callable;
    } else {
      return verdict::ok;
    }
  }
  static const void* target(const F&) noexcept { return nullptr; }
  static void put(packer&, const F&) noexcept {}
  static F receive(invocation&) {
    if constexpr (std::is_default_constructible_v<F>) {
      return F();
    } else {
      return std::bit_cast<F>(std::array<std::byte, sizeof(F)>{});  // has no state, so any bytes are its value
    }
  }
};

template <class R, class... P, bool NoExcept>
struct callable_kind<R (*)(P...) noexcept(NoExcept)> {
  using object = R (*)(P...) noexcept(NoExcept);
  static constexpr bool has_fixed_signature = true;
  static constexpr verdict judge() { return verdict::ok; }
  static const void* target(object function) noexcept { return reinterpret_cast<const void*>(function); }
  static void put(packer&, object) noexcept {}
  static object receive(invocation& call) noexcept { return reinterpret_cast<object>(const_cast<void*>(call.target)); }
};

template <class F>
struct callable_kind<by_value_callable<F>> : function_object<F> {
  static constexpr verdict judge() { return verdict::ok; }
  static const void* target(const by_value_callable<F>&) noexcept { return nullptr; }
  static void put(packer& to, const by_value_callable<F>& closure) { to.put(closure.function); }
  static F receive(invocation& call) {
    std::array<std::byte, sizeof(F)> bytes;
    call.arguments.get_bytes(bytes.data(), bytes.size());
    return std::bit_cast<F>(bytes);
  }
};

// ---- Parameters, given the arguments.

/// The parameter that an argument of a generic function object is passed to.
template <class Arg>
struct deduced_parameter {
  using type = std::decay_t<Arg>;
};
template <class Arg>
  requires is_array<std::remove_cvref_t<Arg>>
struct deduced_parameter<Arg> {
  using type = array<const typename std::remove_cvref_t<Arg>::value_type, std::remove_cvref_t<Arg>::rank()>;
};

template <class Object, class... P>
struct generic_signature {
  static constexpr bool invocable = false;
};
template <class Object, class... P>
  requires std::is_invocable_v<Object&, P...>
struct generic_signature<Object, P...> {
  static constexpr bool invocable = true;
  using result = std::invoke_result_t<Object&, P...>;
  using parameters = type_list<P...>;
};

template <class Callable, class... Args>
struct signature_of
    : generic_signature<typename callable_kind<Callable>::object, typename deduced_parameter<Args>::type...> {};
template <class Callable, class... Args>
  requires(callable_kind<Callable>::has_fixed_signature && std::is_class_v<typename callable_kind<Callable>::object>)
struct signature_of<Callable, Args...> : fixed_signature<decltype(&callable_kind<Callable>::object::operator())> {};
template <class Callable, class... Args>
  requires std::is_pointer_v<Callable>
struct signature_of<Callable, Args...> : fixed_signature<Callable> {};

template <class Callable, class... Args>
using signature_for = signature_of<Callable, Args...>;

// ---- Judging a call.

template <class Parameters, class... Args>
struct argument_judge;
template <class... P, class... Args>
struct argument_judge<type_list<P...>, Args...> {
  static constexpr bool all_ok() {
    if constexpr (sizeof...(P) != sizeof...(Args)) {
      return false;
    } else {
      return ((parameter_codec<P>::judge_parameter() == verdict::ok) && ...) &&
             ((parameter_codec<P>::template judge<Args>() == verdict::ok) && ...);
    }
  }
  static consteval void require() {
    (require_ok<parameter_codec<P>::judge_parameter(), P, address_in_value_t<P>>(), ...);
    if constexpr (sizeof...(P) == sizeof...(Args)) {
      if constexpr (((parameter_codec<P>::judge_parameter() == verdict::ok) && ...)) {
        (require_ok<parameter_codec<P>::template judge<Args>(), P, Args>(), ...);
      }
    } else {
      require_ok<verdict::wrong_number_of_arguments, type_list<P...>, Args...>();
    }
  }
};

template <class F, class... Args>
consteval bool judge_call() {
  using callable = std::decay_t<F>;
  if constexpr (callable_kind<callable>::judge() != verdict::ok) {
    return false;
  } else if constexpr (requires { typename signature_for<callable, Args...>::parameters; }) {
    using signature = signature_for<callable, Args...>;
    return result_codec<typename signature::result>::judge() == verdict::ok &&
           argument_judge<typename signature::parameters, Args...>::all_ok();
  } else {
    return false;
  }
}

/// True if submit(f, args...) can be done: `F` can be sent, and takes exactly these arguments by the rules of the
/// parameter table. F and Args as forwarded.
template <class F, class... Args>
concept callable_with = judge_call<F, Args...>();

/// True if F says itself that it takes as many arguments: then none of them is a completion token, and an argument that
/// does not fit is reported as such.
template <class F, class... Args>
concept takes_this_many = callable_kind<std::decay_t<F>>::has_fixed_signature &&
                          signature_for<std::decay_t<F>, Args...>::parameters::size == sizeof...(Args);

/// Does not compile unless callable_with<F, Args...>, and says in plain words why.
template <class F, class... Args>
consteval void require_call() {
  using callable = std::decay_t<F>;
  require_ok<callable_kind<callable>::judge(), callable>();
  if constexpr (callable_kind<callable>::judge() == verdict::ok) {
    if constexpr (requires { typename signature_for<callable, Args...>::parameters; }) {
      using signature = signature_for<callable, Args...>;
      argument_judge<typename signature::parameters, Args...>::require();
      using result = typename signature::result;
      require_ok<result_codec<result>::judge(), result, address_in_value_t<result>>();
    } else {
      require_ok<verdict::not_invocable, callable, Args...>();
    }
  }
}

}  // namespace shmpool::detail
