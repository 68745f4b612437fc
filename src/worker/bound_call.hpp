// A function of pool_options in a worker, initializer or finalizer, that is found and then called.
//
// Thread safety: none.
#pragma once

#include "wire/hello.hpp"

#include <shmpool/detail/message.hpp>

#include <cstddef>
#include <utility>

namespace shmpool::worker {

class bound_call {
 public:
  explicit bound_call(wire::named_call which) noexcept : which_(std::move(which)) {}

  /// Finds the function, which may open the module that it is in. Throws std::system_error(errc::function_not_found).
  void resolve();
  /// Calls it; resolve() comes before. Throws what it throws.
  void operator()(detail::segment_source& memory, std::size_t inline_bytes) const;

 private:
  wire::named_call which_;
  detail::callable_ref code_;
};

}  // namespace shmpool::worker
