// by_value(f): sends a function object that has state, as its bytes.
//
// Thread safety: as the function object's own.
#pragma once

#include <shmpool/detail/codec/addresses.hpp>

#include <type_traits>
#include <utility>

namespace shmpool {

template <class F>
struct by_value_callable {
  static_assert(
      std::is_class_v<F> && std::is_trivially_copyable_v<F>,
      "shmpool: by_value copies the bytes of a function object, so it must be trivially copyable: pass what it "
      "captures as arguments instead");
  static_assert(!detail::holds_address<F>,
                "shmpool: by_value copies the bytes of a function object, and this one holds a pointer, a view or "
                "another address, which means nothing in another process: pass what it refers to as an argument");
  F function;
};

/// Lets submit() send a function object with state, such as a lambda that captures numbers, by copying its bytes:
/// `pool.submit(shmpool::by_value([scale](double x) { return scale * x; }), 2.0)`.
///
/// A captured reference or pointer would point into the caller's memory, which the worker does not have, and the
/// compiler detects that in aggregates only: capture values only.
template <class F>
by_value_callable<std::decay_t<F>> by_value(F&& function) {
  return {std::forward<F>(function)};
}

}  // namespace shmpool
