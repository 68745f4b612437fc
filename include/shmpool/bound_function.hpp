// bound_function: the type of pool_options::initializer and finalizer, a function and the arguments that each worker
// calls it with. bind() makes one.
#pragma once

#include <shmpool/detail/callable_ref.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

namespace shmpool {

namespace detail {

struct bound_call {
  callable_ref code;
  std::vector<std::byte> arguments;  ///< as those of a task, all of them in the message
};

template <class F>
concept called_without_bind = !std::is_convertible_v<F, void (*)()> &&
                              (std::is_function_v<std::remove_pointer_t<F>> || requires { &F::operator(); });

}  // namespace detail

/// A function and its arguments, or none. Plain functions `void()` and captureless lambdas convert to it,
/// shmpool::bind() makes one with arguments.
///
/// Copies share one encoding of the arguments. Thread safety: as a pointer's.
class bound_function {
  // g++ 12 copies temporaries within a co_await expression byte by byte and destroys both the original and the copy. So
  // an object here holds only a key: destroying a key twice does no harm. There is no move, because a second copy of a
  // moved-from object may exist.
 public:
  bound_function() noexcept = default;
  bound_function(std::nullptr_t) noexcept {}
  template <class Function>
    requires std::is_convertible_v<Function, void (*)()>
  bound_function(Function function) : bound_function(of_plain(function)) {}
  template <detail::called_without_bind Function>
  bound_function(Function) {
    static_assert(
        !detail::called_without_bind<Function>,
        "shmpool: an initializer or finalizer with arguments is made by shmpool::bind(function, arguments...), also "
        "in place of a lambda that captures; without, it is a void() function");
  }
  explicit bound_function(detail::bound_call call);

  bound_function(const bound_function& other);
  bound_function& operator=(const bound_function& other);
  ~bound_function();

  explicit operator bool() const noexcept { return key_ != 0; }
  friend bool operator==(const bound_function& which, std::nullptr_t) noexcept { return which.key_ == 0; }

  /// For the library: null if there is none.
  std::shared_ptr<const detail::bound_call> call() const;

 private:
  static bound_function of_plain(void (*function)());

  std::uint64_t key_ = 0;
};

}  // namespace shmpool
