// The surroundings of a pool (pool/surroundings), as the server receives them and as each worker of the pool applies
// them.
//
// Thread safety: none; a server and a fresh worker have one thread.
#pragma once

#include "process/unique_fd.hpp"
#include "wire/server_protocol.hpp"
#include "worker/become_worker.hpp"

#include <cstddef>
#include <vector>

namespace shmpool::worker {

class received_surroundings {
 public:
  received_surroundings() = default;
  /// Takes its descriptors from `descriptors`, beginning at `first`. Throws if that fails.
  received_surroundings(const wire::pool_surroundings& values, std::vector<unique_fd>& descriptors, std::size_t first);

  /// For a worker: applies them, and returns the call that the kernel refuses. CPUs and limits that the kernel does not
  /// grant any more stay as they are.
  setup_failure apply() noexcept;
  const cpu_set_t& cpus() const noexcept { return values_.cpus; }

 private:
  wire::pool_surroundings values_{};
  unique_fd directory_, output_, error_;
  std::vector<char> environment_text_;
  std::vector<char*> environment_;  // empty: the worker keeps the server's environment
};

}  // namespace shmpool::worker
