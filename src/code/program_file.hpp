// The file of the running program, to execute it again. Mostly that is /proc/self/exe; but under valgrind, and where
// the program was started through the dynamic loader, /proc/self/exe is another program.
//
// Thread safety: any thread.
#pragma once

#include <cstdint>
#include <string>

namespace shmpool::code {

/// The file to execute. Throws std::system_error(errc::fork_server) that says what is missing.
std::string find_program_file();

/// True if executing the file may give privileges: it is set-user-ID, set-group-ID, or has capabilities; also if that
/// cannot be determined.
bool gives_privileges(const std::string& file) noexcept;

/// The file that is mapped at the address, by /proc/self/maps; empty if there is none.
std::string mapped_file(std::uintptr_t address);

}  // namespace shmpool::code
