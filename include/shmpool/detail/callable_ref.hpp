// The code that a task runs, as addresses in this process.
//
// Thread safety: values.
#pragma once

namespace shmpool::detail {

struct invocation;  // see codec/message.hpp

/// Decodes the arguments, calls, encodes the result. One is instantiated per signature; it is named on the wire by the
/// module that holds it and its offset there.
using trampoline = void (*)(invocation&);

/// What to call: a trampoline and, for function pointers, the function itself.
struct callable_ref {
  trampoline entry = nullptr;
  const void* target = nullptr;
  friend bool operator==(const callable_ref&, const callable_ref&) = default;
};

}  // namespace shmpool::detail
