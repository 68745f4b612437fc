// The least that two processes pay for a message through a socket: one that sends back whatever it gets.
#pragma once

#include "child_process.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <optional>
#include <span>
#include <system_error>
#include <vector>

namespace bench {

/// The parent's end of a stream to a process that echoes it, in pieces as large as they arrive.
///
/// Thread safety: none.
class echo_process {
 public:
  /// Most bytes that either side takes at once.
  static constexpr std::size_t most = 256 * 1024;

  /// With `poll` neither side sleeps while it waits, and each has a CPU of its own.
  explicit echo_process(bool poll) : wait_(poll ? MSG_DONTWAIT : 0) {
    if (poll) pinned_.emplace();
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
      throw std::system_error(errno, std::generic_category(), "socketpair");
    socket_ = ends[1];
    child_.emplace([&] {
      ::close(ends[0]);
      if (pinned_) pinned_->to(1);
      echo();
    });
    ::close(ends[1]);
    socket_ = ends[0];
  }
  echo_process(const echo_process&) = delete;
  echo_process& operator=(const echo_process&) = delete;
  ~echo_process() { ::close(socket_); }

  /// Sends `message` and waits until as much has come back, in `received`. False if the other process is gone.
  bool round_trip(std::span<const std::byte> message, std::span<std::byte> received) {
    if (!send(message)) return false;
    while (!received.empty()) {
      const std::size_t n = receive(received);
      if (n == 0) return false;
      received = received.subspan(n);
    }
    return true;
  }

  /// Sends what there is room for, which may be nothing; returns how much.
  std::size_t send_some(std::span<const std::byte> what) {
    const ssize_t n = ::send(socket_, what.data(), what.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return n < 0 ? 0 : static_cast<std::size_t>(n);
  }

  /// Waits until something is there and returns how much of it was read; 0 if the other process is gone.
  std::size_t receive(std::span<std::byte> into) {
    ssize_t n = 0;
    do {
      n = ::recv(socket_, into.data(), into.size(), wait_);
    } while (n < 0 && (errno == EINTR || (wait_ != 0 && errno == EAGAIN)));
    return n < 0 ? 0 : static_cast<std::size_t>(n);
  }

 private:
  bool send(std::span<const std::byte> what) {
    return ::send(socket_, what.data(), what.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(what.size());
  }

  void echo() {
    std::vector<std::byte> piece(most);
    std::size_t n = 0;
    do {
      n = receive(piece);
    } while (n != 0 && send(std::span(piece).first(n)));
  }

  const int wait_;
  std::optional<pinned> pinned_;
  int socket_ = -1;
  std::optional<child_process> child_;
};

}  // namespace bench
