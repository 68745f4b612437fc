// A system call that failed: its name and its error. Errors that a user reads name the call.
//
// Thread safety: a value.
#pragma once

#include <system_error>

namespace shmpool::shm {

/// False if no call failed.
struct call_error {
  const char* call = "";  ///< a literal
  std::error_code code;

  explicit operator bool() const noexcept { return static_cast<bool>(code); }
};

}  // namespace shmpool::shm
