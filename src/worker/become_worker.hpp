// How a fresh fork of the server becomes a worker: nothing of the server's state leaks into it, and it finds what is
// around its pool.
//
// Thread safety: none; it has one thread.
#pragma once

#include "wire/server_protocol.hpp"

#include <sys/types.h>

#include <initializer_list>

namespace shmpool::worker {

class received_surroundings;

/// The call that failed, and its error; null if none did.
struct setup_failure {
  const char* call = nullptr;
  int error = 0;
};

/// What is left to do in a fork of the server, whose signals were reset: the worker dies with `server` (and at once if
/// that is dead already), leads a session, leaves SIGINT, SIGTERM, SIGHUP and SIGQUIT to the application, reads
/// /dev/null (if the server does not: `null_input`), has random generators of its own, finds the surroundings of its
/// pool, and has the limits, nice value and CPUs of `settings`. Returns what the kernel refused, which must not run
/// silently without it; calls _exit if the server is gone.
setup_failure become_worker(pid_t server, const wire::worker_settings& settings, received_surroundings& with,
                            std::initializer_list<int> keep, bool null_input) noexcept;

}  // namespace shmpool::worker
