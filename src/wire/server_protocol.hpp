// The messages between a parent and its fork server: of fixed layout, on SOCK_SEQPACKET sockets. Both are the same
// program (or copies of one process), so the structs travel as they are.
//
// Thread safety: values.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <cstdint>

namespace shmpool::wire {

inline constexpr unsigned resource_count = 16;  // RLIM_NLIMITS

/// What workers inherit from the process as it was when their pool was made, whichever thread made the pool, and
/// whatever the server was started with.
struct pool_surroundings {
  cpu_set_t cpus;      ///< those of the process; none: unknown
  std::int32_t nice;   ///< that of the process
  std::int32_t umask;  ///< -1: unknown
  struct {
    std::uint64_t soft, hard;
  } limits[resource_count];
  /// Not 0: the descriptors come with the message, in this order.
  std::uint32_t has_directory, has_streams, has_environment;
};

/// Root socket, parent to server: a pool was made. Carries the server's end of the pool's own socket; then, if `with`
/// says so, the working directory, standard output and standard error, and a file with the environment ("NAME=value",
/// each ended by a zero byte). When the pool's socket is closed by the parent, the server kills and reaps the pool's
/// workers.
struct open_pool_message {
  std::uint64_t pool_id;
  pool_surroundings with;
};

inline constexpr unsigned max_rlimits = 16;

/// How a worker is set up after the fork.
struct worker_settings {
  std::int32_t nice;
  std::uint32_t rlimit_count;
  struct {
    std::int32_t resource;
    std::uint64_t value;
  } rlimits[max_rlimits];
  std::uint32_t leave_descendants;  ///< not 0: processes that its tasks have started may outlive it
  std::uint32_t ignored_signals;    ///< bit n: signal n, which is ignored in the application
  std::uint32_t index;              ///< this_task::worker_index()
  std::uint32_t use_affinity;
  cpu_set_t affinity;
};

enum class server_message_type : std::uint32_t {
  // parent to server
  spawn = 1,  ///< carries two descriptors: the worker's end of its socket, and its control memory
  kill = 2,   ///< SIGKILL
  // server to parent
  spawned = 3,       ///< carries the worker's pidfd
  spawn_failed = 4,  ///< errno in `status`
  exited = 5,        ///< wait status in `status`
};

struct server_message {
  server_message_type type{};
  std::uint32_t worker = 0;
  std::int32_t pid = 0;
  std::int32_t status = 0;
  std::uint64_t max_rss_bytes = 0;
  std::uint64_t cpu_us = 0;  ///< exited: CPU time that it has used, in microseconds
  std::uint32_t call = 0;    ///< spawn_failed: which call failed, see failed_call
  std::uint32_t reserved = 0;
};

struct spawn_message {
  server_message head;
  worker_settings settings;
};

enum class failed_call : std::uint32_t { fork = 0, pidfd_open = 1, receive_descriptors = 2 };

}  // namespace shmpool::wire
