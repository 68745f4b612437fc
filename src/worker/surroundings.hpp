// What workers have of the application as it is when their pool is made: CPUs, nice value, limits, umask, working
// directory, output streams, environment. The fork server, which all pools share, was started at another time and by
// another thread.
//
// Thread safety: none; a pool's are its engine's, in the server they belong to its one thread.
#pragma once

#include "unique_fd.hpp"
#include "wire/server_protocol.hpp"
#include "worker/privileges.hpp"

#include <string>
#include <vector>

namespace shmpool::worker {

struct setup_failure;

/// The environment of this process: "NAME=value", each ended by a zero byte.
std::string environment_now();

/// The application's side.
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

/// The server's and the worker's side.
class received_surroundings {
 public:
  received_surroundings() = default;
  /// Takes the descriptors that belong to it, which begin at `first`. Throws what keeps it from that.
  received_surroundings(const wire::pool_surroundings& values, std::vector<unique_fd>& descriptors, std::size_t first);

  /// In a worker: what the kernel refuses. CPUs and limits that the kernel does not give any more are left as they are.
  setup_failure apply() noexcept;
  const cpu_set_t& cpus() const noexcept { return values_.cpus; }

 private:
  wire::pool_surroundings values_{};
  unique_fd directory_, output_, error_;
  std::vector<char> environment_text_;
  std::vector<char*> environment_;  // empty: that of the server
};

}  // namespace shmpool::worker
