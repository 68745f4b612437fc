// A process that has one pool after the other, each with clients, a killer and an end of a random kind. It checks
// itself and exits with 0, or with 3 and a finding; or it goes on until it is killed.
#pragma once

#include <shmpool/options.hpp>

#include <cstdint>

namespace shmpool::chaos {

struct storm_options {
  std::uint64_t seed = 0;
  unsigned pools = 4;  ///< 0: until it is killed
  int kills = 4;       ///< of workers, in each pool
  int faults = 2;      ///< at fault points, in each pool, if the environment names any
  int server_kills = 0;
  backend loop = backend::automatic;
  backing memory = backing::posix;
};

int run_storm(const storm_options& options);

}  // namespace shmpool::chaos
