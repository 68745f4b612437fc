// How a process becomes a fork server: the program executed again, when it calls shmpool::init or, if its constructors
// start threads, before they run; or a copy of the application.
//
// Thread safety: none; such a process has one thread.
#pragma once

#include "process/unique_fd.hpp"

#include <sys/types.h>

namespace shmpool::server {

/// In a copy of the application, which has one thread: becomes the server of `parent`; never returns. `root`: the
/// server's end of the root socket.
[[noreturn]] void run_forked(unique_fd root, pid_t parent) noexcept;

}  // namespace shmpool::server
