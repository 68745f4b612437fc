// How functions are named in frames, and the body of `hello`, the first frame to a worker. docs/wire-frames.md has the
// layouts.
//
// Thread safety: values and free functions.
#pragma once

#include "code/code_ref.hpp"

#include <shmpool/detail/callable_ref.hpp>
#include <shmpool/detail/codec/message.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace shmpool::wire {

/// A trampoline, and the function that it calls if it takes one.
struct function_name {
  code::code_ref entry;
  std::optional<code::code_ref> target;

  /// The body of a `function` frame.
  void append_to(std::vector<std::byte>& body) const;
  /// Throws std::system_error(errc::protocol_violation).
  static function_name decode(detail::unpacker& from);
};

/// A function with its arguments.
struct named_call {
  function_name function;
  std::vector<std::byte> arguments;
};

struct hello {
  std::uint64_t inline_bytes = 0;        ///< pool_options::inline_bytes
  std::uint64_t idle_ms = 0;             ///< how long the worker waits for tasks; 0: for ever
  std::uint64_t max_resident_bytes = 0;  ///< pool_options::max_worker_rss; 0: no limit
  bool dump_arrays = false;              ///< pool_options::dump_arrays
  std::optional<named_call> initializer, finalizer;

  /// Throws std::system_error(errc::message_too_large) that names the option whose arguments are too large.
  std::vector<std::byte> encode() const;
  /// Throws std::system_error(errc::protocol_violation).
  static hello decode(std::span<const std::byte> body);
};

}  // namespace shmpool::wire
