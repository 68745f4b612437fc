// The parent's side of the fork server: one per process, started when the first pool is made, shared by all pools. The
// server's own loop is in server/server_loop.cpp.
//
// Thread safety: all functions may be called from any thread.
#pragma once

#include "pool/server_channel.hpp"

#include <cstdint>
#include <memory>

namespace shmpool::pool {

/// Starts the server if there is none. Must precede the pool's first name in /dev/shm: if the parent dies from then on,
/// the server removes the name. Throws as server_channel::source::connect() does.
void ensure_fork_server();

/// The source of a pool's servers; the pool's workers get the surroundings that this process has now. Its connect()
/// starts the server if there is none, if it has died, or if this process has other privileges by now, and introduces
/// the pool. Closing the socket makes the server kill and reap the pool's workers. connect() throws std::system_error:
/// errc::fork_server with a text that says what to do, also if servers end before they do anything; or the error of a
/// system call, with its name.
std::unique_ptr<server_channel::source> servers_for(std::uint64_t pool_id);

}  // namespace shmpool::pool
