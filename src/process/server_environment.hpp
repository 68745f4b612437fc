// The environment of a program that is executed to be a fork server.
//
// Thread safety: none.
#pragma once

#include "process/program_start.hpp"

#include <sys/types.h>

#include <string>
#include <vector>

namespace shmpool {

/// The environment of this process, and the note to the server. `bind_eagerly` makes the dynamic linker look up in the
/// server, once, the symbols that each worker would otherwise look up in its first tasks.
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

/// In the server: removes the variable, so that programs which it or its workers execute are not bound eagerly. True if
/// the server was.
bool forget_eager_binding();

}  // namespace shmpool
