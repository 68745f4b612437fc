// The exit handlers of the application (atexit, destructors of static objects), in a server that is a copy of it.
//
// Thread safety: none; a server has one thread.
#pragma once

namespace shmpool::server {

/// For a copy of the application that is to become the fork server: the application runs the exit handlers that exist
/// now (destructors of static objects, functions given to atexit); no process that is forked from here runs them.
/// Handlers that are registered later run as usual.
void leave_exit_handlers_to_the_application() noexcept;

}  // namespace shmpool::server
