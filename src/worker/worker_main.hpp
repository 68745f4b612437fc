// The worker process: reads tasks, runs them, replies.
//
// Thread safety: none; it is called once, by a process with one thread.
#pragma once

#include "process/unique_fd.hpp"
#include "worker/become_worker.hpp"

namespace shmpool::worker {

/// Serves the parent at the other end of `socket` until the parent closes its end or sends `leave`; never returns.
/// `control` is the memory of wire::control_page.
/// With a `failure` the worker only reports it, and leaves.
[[noreturn]] void run_worker(unique_fd socket, unique_fd control, const setup_failure& failure) noexcept;

}  // namespace shmpool::worker
