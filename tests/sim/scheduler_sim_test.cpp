// Runs the scheduler through random worlds, one per seed.
//
// SHMPOOL_SIM_SEEDS sets the number of seeds, SHMPOOL_SEED the first: to see one run again, set them to 1 and
// the seed that failed. The events of a failing run are printed.
#include "scheduler_sim_world.hpp"

#include "support/environment.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace shmpool::sched::sim {
namespace {

TEST(scheduler_sim, keeps_its_promises_in_random_worlds) {
  const std::uint64_t first = testing::from_environment("SHMPOOL_SEED", 1);
  const std::uint64_t count = testing::from_environment("SHMPOOL_SIM_SEEDS", 200'000);
  for (std::uint64_t seed = first; seed != first + count; ++seed) {
    try {
      world(seed, nullptr).run();
    } catch (const violation& promise) {
      std::string trace;
      try {
        world(seed, &trace).run();
      } catch (const violation&) {
      }
      FAIL() << "seed " << seed << ": " << promise.what() << "\n" << trace;
    }
  }
}

}  // namespace
}  // namespace shmpool::sched::sim
