// Exceptions as bytes. The worker encodes what a task threw, the parent decodes and throws it; docs/wire-exceptions.md
// has the layout. Thread safety: any thread may call these.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <exception>
#include <span>
#include <vector>

namespace shmpool::detail {

/// The record of an exception. If there is not enough memory for all of it, a record of its standard base alone; if
/// there is not even that much, an empty one, which decode_exception reads as std::bad_alloc.
std::vector<std::byte> encode_exception(std::exception_ptr error) noexcept;

/// Throws std::system_error(errc::protocol_violation) if the record is malformed. Runs no code of the user's.
void check_exception(std::span<const std::byte> record);

/// The exception to throw in the parent: a remote_exception of the type that was thrown, or of its nearest base that
/// is standard or registered. Throws std::system_error(errc::protocol_violation) if the record is malformed.
std::exception_ptr decode_exception(std::span<const std::byte> record, pid_t worker_pid);

}  // namespace shmpool::detail
