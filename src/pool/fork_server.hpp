// The parent's side of the fork server: one per process, started when the first pool is made, shared by all pools. The
// server's own loop is in server/server_loop.cpp.
//
// Thread safety: all functions may be called from any thread.
#pragma once

#include "pool/server_channel.hpp"
#include "process/unique_fd.hpp"

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

namespace shmpool::pool {

class surroundings;

/// How a server may be started if there is none.
enum class server_start : std::uint8_t {
  any,             ///< by executing this program again if it called init, else by fork if it has only one thread
  only_executing,  ///< for a pool that has lost its server: forking now would copy its arrays
};

/// Starts the server if there is none. Must precede the pool's first name in /dev/shm: if the parent dies from then on,
/// the server removes the name. Throws as connect_pool().
void ensure_fork_server();

/// Starts the server if there is none, if it has died, or if this process has other privileges by now, and introduces a
/// pool whose workers get the surroundings `with`. Returns the pool's own socket to the server (SOCK_SEQPACKET,
/// non-blocking); closing it makes the server kill and reap the pool's workers. Throws std::system_error:
/// errc::fork_server with a text that says what to do, also if servers end before they do anything; or the error of a
/// system call, with its name.
unique_fd connect_pool(std::uint64_t pool_id, const surroundings& with, server_start how = server_start::any);

/// The source of a pool's servers; the pool's workers get the surroundings that this process has now.
std::unique_ptr<server_channel::source> servers_for(std::uint64_t pool_id);

/// Notes that the server has answered a pool: if it dies, a new server is likely to work.
void server_works() noexcept;

/// True if the server that died last did not get to init in time: the next one will not, either.
bool server_took_too_long() noexcept;

/// How the server that died last ended, for an error text.
std::string how_server_ended();

}  // namespace shmpool::pool
