// Names that dead pools left behind: finding out whose they are, and removing them. reap_orphans() itself is declared
// in shmpool/shm_handle.hpp, unlink_pools() in shm/mapping.hpp.
//
// Thread safety: free functions without state; several processes may reap at once.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace shmpool::shm {

/// The parts of a name in the shm directory.
struct parsed_name {
  std::uint64_t pool_id = 0;
  std::uint64_t segment_id = 0;  ///< 0 for the lock file
};

/// Null unless it is exactly a name that this user's pools make.
std::optional<parsed_name> parse_name(std::string_view name);

}  // namespace shmpool::shm
