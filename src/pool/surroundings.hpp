// What workers have of the application as it is when their pool is made: CPUs, nice value, limits, umask, working
// directory, output streams, environment. The fork server, which all pools share, was started at another time and by
// another thread. Workers take it on in worker/received_surroundings.
//
// Thread safety: none; the engine's lock guards a pool's.
#pragma once

#include "pool/privileges.hpp"
#include "process/unique_fd.hpp"
#include "wire/server_protocol.hpp"

#include <string>
#include <vector>

namespace shmpool::pool {

/// The environment of this process: "NAME=value", each ended by a zero byte.
std::string environment_now();

class surroundings {
 public:
  /// As they are now.
  surroundings();

  /// What workers may have at the most.
  const privileges& made_with() const noexcept { return made_with_; }

  /// The message's part, and the descriptors that go with it, for a server that was started with `environment`. Output
  /// streams are those of now: a pool must not keep open what the application closes. Throws std::system_error for want
  /// of descriptors.
  wire::pool_surroundings describe(const std::string& environment, std::vector<unique_fd>& descriptors) const;

 private:
  privileges made_with_ = privileges::now();
  wire::pool_surroundings values_{};
  unique_fd directory_;
  std::string environment_;
};

}  // namespace shmpool::pool
