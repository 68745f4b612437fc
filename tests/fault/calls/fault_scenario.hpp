// A compact but complete life of a pool, every result of it checked: what a program does while its system calls fail.
#pragma once

namespace shmpool::testing {

/// What is expected of a run.
enum class tolerance : bool {
  once,      ///< one call fails, once: what ends with an error succeeds when it is tried again
  for_good,  ///< a call goes on failing: errors may stay
};

/// How a run has ended.
enum class scenario_end : int {
  right = 0,     ///< everything succeeded, if need be in a second attempt, or (for_good) with documented errors
  wrong = 1,     ///< a wrong result, or an error that is none of the documented set; said on stdout
  broken = 2,    ///< right, but the pool had to be made again in between, as it was broken
  unusable = 77  ///< the machine does not support what was asked for
};

/// Runs it; each error that a user would see is printed as "error: <step>: <text>". Aborts if it hangs.
scenario_end run_scenario(tolerance expected, bool with_init);

}  // namespace shmpool::testing
