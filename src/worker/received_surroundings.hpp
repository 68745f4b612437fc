// The surroundings of a pool (pool/surroundings), as a server has been told of them and as each of its workers takes
// them on.
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
