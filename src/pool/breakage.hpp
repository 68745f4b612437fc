// Why a pool is broken, as all tasks of it are told. Made under the engine's lock, told under none: what an initializer
// threw is decoded by code of the user's.
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
  std::exception_ptr cause = {};  ///< of the library's or the system's making
  /// What a worker has thrown before it was ready, encoded; then it is the cause, and its text belongs to `why`.
  std::optional<std::vector<std::byte>> thrown = {};
  pid_t worker_pid = 0;
  std::string outlook = {};  ///< what becomes of it; the end of the text
};

/// The std::system_error(errc::pool_broken), which nests the cause.
std::exception_ptr error_of(const breakage& of);

}  // namespace shmpool::detail
