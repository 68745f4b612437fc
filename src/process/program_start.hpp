// How this process was started, noted before any constructor of the program runs: its arguments, its CPUs, and whether
// it is the program executed again to be a fork server. That is told by an environment variable, which is taken away at
// once, and not by the arguments, which a program may make up, rewrite or interpret before it calls init.
//
// Thread safety: any thread may read what is noted, which is fixed when main has called init; the rest is for the
// server and for fresh workers, which have one thread.
#pragma once

#include "process/unique_fd.hpp"

#include <sched.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

// posix_spawn can close what the program should not have since glibc 2.34. Elsewhere the executed program closes it
// itself.
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
#define SHMPOOL_HAS_SPAWN_CLOSEFROM 1
#else
#define SHMPOOL_HAS_SPAWN_CLOSEFROM 0
#endif

namespace shmpool {

/// Exit codes of a program that was executed and does not become a server.
enum exit_code : int {
  pool_before_init = 121,
  threads_from_the_start = 122,
  refused_privileges = 123,
};

/// What a copy of a worker or of a server leaves with, where a task or a library has forked it: it must not speak for
/// the original.
inline constexpr int copy_status = 255;

/// How a program that was executed again becomes a server.
enum class server_mode : std::uint8_t {
  at_init,  ///< when it calls init: its workers are copies of it as it is then, and start soonest
  early,    ///< before its constructors run, which each worker then does for itself: for programs whose constructors
            ///< start threads
};

/// What the executed program is told.
struct server_start_note {
  pid_t parent = 0;
  server_mode mode = server_mode::at_init;
  int socket = -1;  ///< the server's end of the root socket, above the numbers that programs get
};

/// The variable, for the environment of the process that is to become a server; its end of the root socket has to be
/// descriptor `socket` there. It also tells whether others may look into this process (PR_SET_DUMPABLE), which
/// executing forgets.
std::string start_variable(pid_t parent, server_mode mode, int socket);

/// Before any constructor of the program runs: notes all that is said here, from the arguments of main where the C
/// library hands them to constructors. Ends the process if it is to be a server and would have gained privileges by
/// that.
void note_program_start(int argc, char** argv) noexcept;

/// The note, in a process that was executed as a server and has not become one; nothing otherwise.
const std::optional<server_start_note>& start_note() noexcept;
/// The same; from here it becomes one.
std::optional<server_start_note> take_start_note() noexcept;
/// True in a process that is to become a server, or a worker of an early one, and has not come to init.
bool awaits_init() noexcept;
/// In a worker of an early server, and when it has come to init.
void set_awaits_init(bool awaits) noexcept;

/// True in a process that was executed as a server, and in what it has forked.
bool is_server_image() noexcept;

/// From init: this program can be executed again, with `argv` if its arguments are not known already.
void note_init(char** argv) noexcept;
/// True if the program has called init.
bool init_was_called() noexcept;

/// The arguments that this process was started with, as they were then; ends with a null pointer. Those of init where
/// the C library does not hand them to constructors, and where they are longer than 16 KiB; null before that.
char* const* program_arguments() noexcept;

/// In a server: what the application was told in its arguments is nobody's business whom it may have hidden it from.
void wipe_arguments() noexcept;

/// The CPUs that this process was started with (by taskset, by its cgroup), whatever a thread of it was pinned to
/// since.
const cpu_set_t& process_cpus() noexcept;
/// From here these are.
void set_process_cpus(const cpu_set_t& cpus) noexcept;

/// How long a process that is started as a server, or as a worker of an early one, may take to get to init.
inline constexpr unsigned start_patience_seconds = 10;
/// Ends it after that time, by SIGALRM: a program that does not get to init must not run as the application for long.
void limit_start() noexcept;
void start_is_over() noexcept;

}  // namespace shmpool
