// The worker process: reads tasks, runs them, replies.
#pragma once

#include "shm/mapping.hpp"

namespace shmpool::worker {

/// Serves the parent at the other end of `socket` until it closes it or says to leave; never returns. `control` is the
/// memory of wire::control_page.
[[noreturn]] void run_worker(shm::unique_fd socket, shm::unique_fd control) noexcept;

}  // namespace shmpool::worker
