// What a fresh fork does before it becomes a fork server or a worker, so that nothing of its parent's state leaks into it.
#pragma once

#include "wire/server_protocol.hpp"

#include <sys/types.h>

#include <initializer_list>

namespace shmpool::worker {

/// Default dispositions for all signals, then an empty mask.
void reset_signals() noexcept;

/// Closes every descriptor above 2 except `keep`. 0 or an errno.
int close_descriptors_except(std::initializer_list<int> keep) noexcept;

/// Opens the standard streams that are closed, on /dev/null. Else descriptors of this library take their numbers, and
/// what somebody prints goes into a socket.
void occupy_standard_streams() noexcept;

/// The call that failed, and its error; null if none did.
struct setup_failure {
  const char* call = nullptr;
  int error = 0;
};

/// All of it for a worker: dies with `server` (and at once if that is dead already), ignores SIGINT (the parent decides),
/// reads /dev/null, has random generators of its own, is the first that the out-of-memory killer takes, and has the limits, nice value and
/// CPUs of `settings`. Returns what the kernel refused, which must not run silently without it; calls _exit if the server
/// is gone.
setup_failure become_worker(pid_t server, const wire::worker_settings& settings, std::initializer_list<int> keep) noexcept;

}  // namespace shmpool::worker
