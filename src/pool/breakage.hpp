// Why a pool is broken: the reason that all its tasks get. Stored under the engine's lock, but turned into an exception
// without it, because user code decodes the exception of an initializer.
//
// Thread safety: values only.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <exception>
#include <optional>
#include <string>
#include <vector>

namespace shmpool::detail {

struct breakage {
  std::string why = {};
  std::exception_ptr cause = {};  ///< an exception of the library or the system
  /// The encoded exception of a worker that was not ready yet; it replaces `cause`, and its text is appended to `why`.
  std::optional<std::vector<std::byte>> thrown = {};
  pid_t worker_pid = 0;
  std::string outlook = {};  ///< what becomes of the pool; the end of the error text
};

/// The std::system_error(errc::pool_broken), which nests the cause.
std::exception_ptr error_of(const breakage& of);

}  // namespace shmpool::detail
