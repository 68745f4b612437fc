// The process attributes that workers get from the application, as they are when the pool is made: CPUs, nice value,
// limits, umask, working directory, output streams, environment. Workers cannot inherit them from the fork server,
// which all pools share: it was started at another time and by another thread. worker/received_surroundings applies
// them.
//
// Thread safety: none; the engine's lock guards the object of a pool.
#pragma once

#include "pool/privileges.hpp"
#include "process/unique_fd.hpp"
#include "wire/server_protocol.hpp"

#include <string>
#include <vector>

namespace shmpool::pool {

/// The environment of this process: "NAME=value" strings, each ended by a zero byte.
std::string environment_now();

class surroundings {
 public:
  /// Captures the current attributes.
  surroundings();

  /// The most that workers may have.
  const privileges& made_with() const noexcept { return made_with_; }

  /// The message part and its descriptors, for a server that was started with `environment`. Uses the output streams of
  /// the moment of the call: a pool must not keep open a stream that the application closes. Throws std::system_error
  /// if descriptors run out.
  wire::pool_surroundings describe(const std::string& environment, std::vector<unique_fd>& descriptors) const;

 private:
  privileges made_with_ = privileges::now();
  wire::pool_surroundings values_{};
  unique_fd directory_;
  std::string environment_;
};

}  // namespace shmpool::pool
