// The bell of a pool: its workers ring it when they have left replies in their rings while the parent sleeps
// (docs/adr/0016-doorbells.md). It is a pipe that carries one packet for each ring, with the number of the worker. All
// workers write to it, and only the parent has the end from which it is read.
//
// Thread safety: none; the engine's lock guards it.
#pragma once

#include "process/unique_fd.hpp"

#include <cstdint>
#include <optional>

namespace shmpool::pool {

class doorbell {
 public:
  /// Where the kernel makes no such pipe, or none any more, there is no bell, and workers send their replies through
  /// their sockets.
  doorbell() noexcept;
  /// Does without a bell. For use before a worker has it.
  void give_up() noexcept {
    to_hear_.reset();
    to_ring_.reset();
  }

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
