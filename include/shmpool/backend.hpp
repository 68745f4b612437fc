// The parts of the system that a pool is built on: how completions arrive, and where shared memory lives.
//
// Thread safety: values.
#pragma once

#include <cstdint>

namespace shmpool {

/// How completions arrive.
enum class backend : std::uint8_t {
  automatic,  ///< io_uring where a real round trip through a ring works, otherwise epoll
  io_uring,   ///< io_uring, or construction fails and says why
  epoll,      ///< epoll
};

/// Where segments live.
enum class backing : std::uint8_t {
  automatic,  ///< named POSIX shared memory; memfd where /dev/shm is missing or full
  posix,      ///< named POSIX shared memory only
  memfd,      ///< anonymous memory whose descriptor is passed to the workers
};

}  // namespace shmpool
