// How far a cancellation goes: Asio's cancellation types, without Asio.
//
// Thread safety: values.
#pragma once

#include <cstdint>

namespace shmpool::detail {

enum class cancel_kind : std::uint8_t {
  total,     ///< only what has not begun
  partial,   ///< and asks what has begun to stop
  terminal,  ///< and kills what does not
};

}  // namespace shmpool::detail
