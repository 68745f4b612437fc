// An initializer or finalizer of pool_options in a worker: resolve it first, then call it.
//
// Thread safety: none.
#pragma once

#include "wire/hello.hpp"

#include <shmpool/detail/callable_ref.hpp>
#include <shmpool/detail/segment_source.hpp>

#include <cstddef>
#include <utility>

namespace shmpool::worker {

class bound_call {
 public:
  explicit bound_call(wire::named_call which) noexcept : which_(std::move(which)) {}

  /// Finds the function, and may open its module for that. Throws std::system_error(errc::function_not_found).
  void resolve();
  /// Calls the function, after resolve(). Lets its exceptions through.
  void operator()(detail::segment_source& memory, std::size_t inline_bytes) const;

 private:
  wire::named_call which_;
  detail::callable_ref code_;
};

}  // namespace shmpool::worker
