// The environment that a program is executed with to be a fork server.
//
// Thread safety: none.
#pragma once

#include "process/program_start.hpp"

#include <sys/types.h>

#include <string>
#include <vector>

namespace shmpool {

/// The environment of this process, and what the server is told. `bind_eagerly` makes the dynamic linker look up in the
/// server, once, what each of its workers would look up anew in its first tasks.
class server_environment {
 public:
  server_environment(pid_t parent, server_mode mode, int socket, bool bind_eagerly);
  server_environment(const server_environment&) = delete;
  server_environment& operator=(const server_environment&) = delete;
  /// For execve(); ends with a null pointer.
  char** variables() noexcept { return variables_.data(); }

 private:
  std::string start_, binding_;
  std::vector<char*> variables_;
};

/// In the server: what it executes itself, or its workers do, is not to be bound so. True if it was.
bool forget_eager_binding();

}  // namespace shmpool
