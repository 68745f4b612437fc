// The record of a thrown exception: made in the worker, thrown again in the parent. This file knows types, no bytes;
// exception_codec knows bytes, no types. Thread safety: none needed, values only.
#pragma once

#include <shmpool/detail/codec/error_code_codec.hpp>
#include <shmpool/remote_error.hpp>

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <vector>

namespace shmpool::detail {

inline constexpr std::size_t max_exception_causes = 16;
inline constexpr std::size_t max_exception_state = 1024 * 1024;

/// A registered type and what its traits saved.
struct registered_state {
  std::string type_key;  ///< typeid name
  std::vector<std::byte> bytes;
};

struct exception_record {
  std::uint8_t kind = 0;  ///< the nearest standard type, see standard_exceptions.hpp
  std::string type_name;
  std::string text;
  std::optional<named_error_code> code;
  std::string path1;  ///< of a filesystem_error
  std::string path2;
  std::optional<registered_state> state;
  std::vector<remote_error::cause> causes;
};

/// The standard kind alone. Allocates nothing of its own.
std::uint8_t nearest_standard_kind(const std::exception_ptr& error) noexcept;

/// The complete record. Throws std::bad_alloc and nothing else.
exception_record describe_exception(const std::exception_ptr& error);

bool is_standard_kind(std::uint8_t kind) noexcept;
/// The record of an exception of which only the kind is known.
exception_record bare_record(std::uint8_t kind);

/// The exception to throw in the parent. `record.kind` must be a standard kind.
std::exception_ptr revive_exception_record(const exception_record& record, pid_t worker_pid);

}  // namespace shmpool::detail
