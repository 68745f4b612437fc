// A function of pool_options in a worker: initializer or finalizer, as the hello frame names it.
//
// Thread safety: none.
#pragma once

#include "code/code_ref.hpp"

#include <shmpool/detail/message.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace shmpool::worker {

class bound_call {
 public:
  /// Reads one, with its arguments, which it keeps: the frame may be gone when it is called. Nothing if there is none.
  static std::optional<bound_call> decode(detail::unpacker& from);

  /// Finds the function, which may open the module that it is in. Throws std::system_error(errc::function_not_found).
  void resolve();
  /// Calls it; resolve() comes before. Throws what it throws.
  void operator()(detail::segment_source& memory, std::size_t inline_bytes) const;

 private:
  code::code_ref entry_;
  std::optional<code::code_ref> target_;
  std::vector<std::byte> arguments_;
  detail::callable_ref code_;
};

}  // namespace shmpool::worker
