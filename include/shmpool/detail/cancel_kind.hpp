// How far a cancellation goes: Asio's cancellation types, without Asio.
//
// Thread safety: values.
#pragma once

#include <cstdint>

namespace shmpool::detail {

enum class cancel_kind : std::uint8_t {
  total,     ///< ends a task that has not begun
  partial,   ///< and asks a task that has begun to stop
  terminal,  ///< and kills a task that does not stop
};

}  // namespace shmpool::detail
