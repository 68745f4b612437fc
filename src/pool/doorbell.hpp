// The bell of a pool: its workers ring it when they have left replies in their rings while the parent sleeps
// (docs/adr/0016-doorbells.md). It is a pipe that carries one packet for each ring, with the number of the worker. All
// workers write to it, and only the parent can read it.
//
// Thread safety: none; the engine's lock guards it.
#pragma once

#include "process/unique_fd.hpp"

#include <cstdint>
#include <optional>

namespace shmpool::pool {

class doorbell {
 public:
  /// Throws std::system_error if there are no descriptors left. Where the kernel makes no such pipe there is no bell,
  /// and workers send their replies through their sockets.
  doorbell();

  /// Readable while next() has something to return; -1 without a bell.
  int to_hear() const noexcept { return to_hear_.get(); }
  /// For the workers; -1 without a bell.
  int to_ring() const noexcept { return to_ring_.get(); }
  /// The number of the worker that has rung next, if any. A worker may have written any number.
  std::optional<std::uint32_t> next() noexcept;

 private:
  unique_fd to_hear_, to_ring_;
};

}  // namespace shmpool::pool
