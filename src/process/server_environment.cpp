#include "process/server_environment.hpp"

#include <unistd.h>

#include <cstdlib>
#include <string_view>

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace shmpool {

namespace {

/// The value tells the library's variable from one that the user has set.
constexpr const char* bind_eagerly_name = "LD_BIND_NOW";
constexpr std::string_view bind_eagerly_value = "shmpool";

}  // namespace

server_environment::server_environment(pid_t parent, server_mode mode, int socket, bool bind_eagerly)
    : start_(start_variable(parent, mode, socket)),
      binding_(std::string(bind_eagerly_name) + "=" + std::string(bind_eagerly_value)) {
  for (char** each = environ; each && *each; ++each) variables_.push_back(*each);
  variables_.push_back(start_.data());
  if (bind_eagerly && !std::getenv(bind_eagerly_name)) variables_.push_back(binding_.data());
  variables_.push_back(nullptr);
}

bool forget_eager_binding() {
  const char* const value = std::getenv(bind_eagerly_name);
  if (!value || value != bind_eagerly_value) return false;
  ::unsetenv(bind_eagerly_name);
  return true;
}

}  // namespace shmpool
