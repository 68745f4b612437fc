// How a fresh fork of the server becomes a worker: no state of the server leaks into it, and it gets the surroundings
// of its pool.
//
// Thread safety: none; the process has one thread.
#pragma once

#include "wire/server_protocol.hpp"

#include <sys/types.h>

#include <initializer_list>

namespace shmpool::worker {

class received_surroundings;

/// The call that failed, and its error; a null call if none failed.
struct setup_failure {
  const char* call = nullptr;
  int error = 0;
};

/// Sets up a fork of the server, which has reset all signals: the worker dies with `server` (at once if that is dead
/// already), leads a session, leaves SIGINT, SIGTERM, SIGHUP and SIGQUIT to the application, reads /dev/null (unless
/// the server does already: `null_input`), has its own random generators, gets the surroundings of its pool, and has
/// the limits, nice value and CPUs of `settings`. Returns the call that the kernel refused: a worker must not run
/// silently without it. Calls _exit if the server is gone.
setup_failure become_worker(pid_t server, const wire::worker_settings& settings, received_surroundings& with,
                            std::initializer_list<int> keep, bool null_input) noexcept;

}  // namespace shmpool::worker
