#include "worker/placement.hpp"

#include <sched.h>

namespace shmpool::worker {

bool placement::is_apart(unsigned parent) noexcept {
  const int here = ::sched_getcpu();
  if (here < 0 || static_cast<unsigned>(here) != parent) return true;
  const auto now = monotonic_clock::now();
  if (now < next_move_) return false;
  next_move_ = now + interval;
  // The mask is asked for each time: tasks may change it. More CPUs than it has room for: the worker stays.
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2) return false;
  cpu_set_t others = allowed;
  CPU_CLR(parent, &others);
  // The kernel moves the thread within the first call.
  if (::sched_setaffinity(0, sizeof others, &others) != 0) return false;
  (void)::sched_setaffinity(0, sizeof allowed, &allowed);
  return true;
}

}  // namespace shmpool::worker
