// The fork server: a small process with one thread that forks workers, reaps them, reports how they ended, and cleans
// up when the application is gone, however it ended.
//
// Thread safety: none; the process has one thread.
#pragma once

#include "process/unique_fd.hpp"
#include "worker/become_worker.hpp"

#include <sys/types.h>

namespace shmpool::server {

/// Thrown in a worker whose server runs before the constructors of the program, to leave the server's loop.
struct early_worker {
  unique_fd socket, control;
  worker::setup_failure failure;
};

/// The loop; never returns, but in a worker of an `early` server it throws early_worker. `root`: the server's end of
/// the root socket; `parent`: the application; `null_input`: standard input is /dev/null already.
[[noreturn]] void run_loop(unique_fd root, pid_t parent, bool null_input, bool early);

}  // namespace shmpool::server
