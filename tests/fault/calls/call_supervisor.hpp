// Makes chosen system calls of a program and of everything that it starts fail: a seccomp filter hands them to a
// supervisor in another process, which lets each go on or answers with an errno. Unlike a tracer it needs no
// privileges, costs nothing for other calls, and sees the fork server and the workers from their first instruction.
//
// Thread safety: none.
#pragma once

#include "process/unique_fd.hpp"

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace shmpool::testing {

/// Whose call it is.
enum class role : std::uint8_t {
  parent,   ///< the program that has the pool
  starter,  ///< what becomes the fork server: posix_spawn's child, the dynamic loader, up to its name
  server,   ///< the fork server
  worker,
};
inline constexpr std::size_t role_count = 4;
inline constexpr std::array<const char*, role_count> role_names{"parent", "starter", "server", "worker"};

/// Which call is to fail: the occurrence-th of that role, counted from 1 over all processes of the role.
struct failing_call {
  role whose{};
  int number = 0;  ///< SYS_...
  int error = 0;
  unsigned occurrence = 1;
  bool for_good = false;  ///< all later ones of the role as well
};

/// Installs the filter in the calling thread (and what it forks and executes from here), and sends its listener through
/// `channel`, a connected Unix socket. False if the kernel refuses filters or listeners.
bool hand_over_calls(std::span<const int> numbers, int channel);

/// The other end: receives the listener, and answers.
class call_supervisor {
 public:
  /// Nothing fails without a target: the calls are only counted.
  call_supervisor(pid_t program, std::optional<failing_call> target) : program_(program), target_(target) {}

  /// Receives what hand_over_calls() sent; false if the other end was closed instead.
  bool take_listener(int channel);
  /// Readable when a call waits for an answer; hung up when no process is left under the filter.
  int descriptor() const noexcept { return listener_.get(); }
  /// Answers one call that waits.
  void answer();

  using counts = std::map<std::pair<role, int>, unsigned>;
  const counts& seen() const noexcept { return seen_; }
  /// How many were made to fail.
  unsigned failed() const noexcept { return failed_; }

 private:
  std::optional<role> role_of(pid_t pid) const;

  pid_t program_;
  std::optional<failing_call> target_;
  unique_fd listener_;
  counts seen_;
  unsigned failed_ = 0;
};

}  // namespace shmpool::testing
