// What a program has left to be done at its end (atexit, destructors of what is static), where the server is a copy of
// it.
//
// Thread safety: none; a server has one thread.
#pragma once

namespace shmpool::server {

/// In a copy of the application that is to become the fork server: what was to be done at the end of the application
/// (objects that existed, functions that were given to atexit) is the application's to do, and not done at the end of
/// any process that is forked from here. What comes into being later is seen to as usual.
void leave_exit_handlers_to_the_application() noexcept;

}  // namespace shmpool::server
