#include "worker/become_worker.hpp"

#include "process/own_descriptors.hpp"
#include "process/program_start.hpp"
#include "process/signals.hpp"
#include "process/standard_streams.hpp"
#include "worker/received_surroundings.hpp"
#include "worker/task_state.hpp"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>

namespace shmpool::worker {

namespace {

/// Seeds the C library's generators. The program has to seed its other generators itself, from the returned value.
std::uint64_t reseed() noexcept {
  auto seed = static_cast<std::uint64_t>(::getpid());
  if (::getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed) seed *= 0x9e3779b97f4a7c15U;
  const auto low = static_cast<unsigned>(seed);
  ::srand(low);
  ::srandom(low);
  ::srand48(static_cast<long>(low));
  return seed;
}

}  // namespace

setup_failure become_worker(pid_t server, const wire::worker_settings& settings, received_surroundings& with,
                            std::initializer_list<int> keep, bool null_input) noexcept {
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return {"prctl(PR_SET_PDEATHSIG)", errno};
  if (::getppid() != server) ::_exit(0);  // the server died before the line above
  ::setsid();  // protects it from a terminal's signals, and marks the processes that its tasks start by their session
  ::prctl(PR_SET_NAME, "shmpool-worker");
  if (const setup_failure failure = with.apply(); failure.call)
    return failure;  // apply() needs descriptors that are closed next
  if (const int error = close_own_descriptors_except(keep)) return {"close_range", error};
  if (!null_input && !read_dev_null()) return {"opening /dev/null as standard input", errno};
  leave_group_signals_to_the_application(settings.ignored_signals);
  note_worker(settings.index, reseed());
  for (std::uint32_t i = 0; i != settings.rlimit_count; ++i) {
    const rlimit limit{settings.rlimits[i].value, settings.rlimits[i].value};
    if (::setrlimit(static_cast<__rlimit_resource_t>(settings.rlimits[i].resource), &limit) != 0) {
      return {"setrlimit, for pool_options::rlimits", errno};
    }
  }
  if (settings.use_affinity != 0) {
    if (::sched_setaffinity(0, sizeof settings.affinity, &settings.affinity) != 0) {
      return {"sched_setaffinity, for pool_options::cpu_affinity", errno};
    }
    set_process_cpus(settings.affinity);
  }
  if (settings.nice != 0 && ::setpriority(PRIO_PROCESS, 0, ::getpriority(PRIO_PROCESS, 0) + settings.nice) != 0) {
    return {"setpriority, for pool_options::nice", errno};
  }
  return {};
}

}  // namespace shmpool::worker
