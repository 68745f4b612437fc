// How this process was started, noted before any constructor of the program runs: its arguments, its CPUs, and whether
// it is the program executed again to be a fork server. An environment variable, which is removed at once, says that;
// not the arguments, which a program may make up, rewrite or interpret before it calls init.
//
// Thread safety: any thread may read the notes, which are fixed when main has called init; the other functions are for
// the server and for fresh workers, which have one thread.
#pragma once

#include "process/unique_fd.hpp"

#include <sched.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

// Since glibc 2.34 posix_spawn can close the descriptors that the program should not have. Elsewhere the executed
// program closes them itself.
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

/// Exit code of a copy of a worker or of a server that a task or a library has forked: the copy must not speak for the
/// original.
inline constexpr int copy_status = 255;

/// How a program that was executed again becomes a server.
enum class server_mode : std::uint8_t {
  at_init,  ///< when it calls init: its workers are copies of its state at that moment, and start soonest
  early,    ///< before its constructors run, so each worker runs them for itself: for programs whose constructors start
            ///< threads
};

/// The note to the executed program.
struct server_start_note {
  pid_t parent = 0;
  server_mode mode = server_mode::at_init;
  int socket = -1;  ///< the server's end of the root socket, above the numbers that programs get
};

/// The variable, for the environment of the process that is to become a server; descriptor `socket` there has to be the
/// server's end of the root socket. The variable also carries PR_SET_DUMPABLE (whether others may inspect this
/// process), which execve resets.
std::string start_variable(pid_t parent, server_mode mode, int socket);

/// Called before any constructor of the program runs: notes how the process was started; the arguments of main only if
/// the C library hands them to constructors. Ends the process if it is to be a server and would have gained privileges
/// by being executed.
void note_program_start(int argc, char** argv) noexcept;

/// The note, in a process that was executed as a server and has not become one; nothing otherwise.
const std::optional<server_start_note>& start_note() noexcept;
/// The same, and removes the note: the process becomes a server now.
std::optional<server_start_note> take_start_note() noexcept;
/// True in a process that is to become a server, or is a worker of an early one, and has not called init yet.
bool awaits_init() noexcept;
/// For a worker of an early server: when it is started, and when it calls init.
void set_awaits_init(bool awaits) noexcept;

/// True in a process that was executed as a server, and in its forked children.
bool is_server_image() noexcept;

/// From init: this program can be executed again, with `argv` if its arguments are not known already.
void note_init(char** argv) noexcept;
/// True if the program has called init.
bool init_was_called() noexcept;

/// The original arguments of this process; ends with a null pointer. The arguments of init if the C library does not
/// hand them to constructors, or if they are longer than 16 KiB; null before init in these cases.
char* const* program_arguments() noexcept;

/// In a server: overwrites the arguments, because the application may have hidden its own from other users.
void wipe_arguments() noexcept;

/// The CPUs that this process was started with (by taskset, by its cgroup), even if a thread was pinned since.
const cpu_set_t& process_cpus() noexcept;
/// Replaces them.
void set_process_cpus(const cpu_set_t& cpus) noexcept;

/// How long a process that is started as a server, or as a worker of an early one, may take to get to init.
inline constexpr unsigned start_patience_seconds = 10;
/// Ends the process after that time, by SIGALRM: a program that never calls init must not run as the application.
void limit_start() noexcept;
void start_is_over() noexcept;

}  // namespace shmpool
