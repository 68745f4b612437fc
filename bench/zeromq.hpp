// Messages through ZeroMQ: between two processes (ipc://, which is a Unix socket) and between two threads (inproc://).
#pragma once

#include "absent.hpp"

#if !defined(BENCH_HAS_ZEROMQ)
namespace bench {
using zeromq_ipc = absent;
using zeromq_inproc = absent;
}  // namespace bench
#else

#include "child_process.hpp"

#include <unistd.h>
#include <zmq.h>

#include <cerrno>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace bench {

/// A context, which has a thread of its own for I/O once a socket of it is connected.
///
/// Thread safety: as ZeroMQ's: several threads may use one.
class zeromq_context {
 public:
  zeromq_context() : context_(::zmq_ctx_new()) {
    if (context_ == nullptr) throw std::runtime_error("zmq_ctx_new");
  }
  zeromq_context(const zeromq_context&) = delete;
  zeromq_context& operator=(const zeromq_context&) = delete;
  ~zeromq_context() { ::zmq_ctx_term(context_); }

  /// Ends what waits in its sockets.
  void shutdown() { ::zmq_ctx_shutdown(context_); }
  void* get() const { return context_; }

 private:
  void* const context_;
};

/// One end of a pair of sockets without bounds on what is under way.
///
/// Thread safety: none.
class zeromq_socket {
 public:
  enum class role { binds, connects };

  zeromq_socket(const zeromq_context& context, role what, const std::string& address)
      : socket_(::zmq_socket(context.get(), ZMQ_PAIR)) {
    set(ZMQ_LINGER, 0);
    set(ZMQ_SNDHWM, 0);
    set(ZMQ_RCVHWM, 0);
    set(ZMQ_RECONNECT_IVL, 1);  // the other end may not be there yet
    const int result =
        what == role::binds ? ::zmq_bind(socket_, address.c_str()) : ::zmq_connect(socket_, address.c_str());
    if (result == 0) return;
    const std::string why = ::zmq_strerror(errno);
    ::zmq_close(socket_);
    throw std::runtime_error(address + ": " + why);
  }
  zeromq_socket(const zeromq_socket&) = delete;
  zeromq_socket& operator=(const zeromq_socket&) = delete;
  ~zeromq_socket() { ::zmq_close(socket_); }

  bool send(std::span<const std::byte> message) {
    return ::zmq_send(socket_, message.data(), message.size(), 0) == static_cast<int>(message.size());
  }

  /// The size of the next message; 0 if there is none, or the context was shut down.
  std::size_t receive(std::span<std::byte> into, bool wait) {
    int size = 0;
    do {
      size = ::zmq_recv(socket_, into.data(), into.size(), wait ? 0 : ZMQ_DONTWAIT);
    } while (size < 0 && errno == EINTR);
    return size < 0 ? 0 : static_cast<std::size_t>(size);
  }

  /// Sends back what it gets until the context is shut down.
  void echo(std::size_t most) {
    std::vector<std::byte> message(most);
    for (std::size_t n = receive(message, true); n != 0 && send(std::span(message).first(n));)
      n = receive(message, true);
  }

 private:
  void set(int option, int value) { ::zmq_setsockopt(socket_, option, &value, sizeof value); }

  void* const socket_;
};

/// To another process and back.
///
/// Thread safety: none.
class zeromq_ipc {
 public:
  static constexpr std::size_t most_outstanding = std::numeric_limits<std::size_t>::max();

  /// It always sleeps while it waits: who polls takes the CPU from the threads that do ZeroMQ's I/O.
  zeromq_ipc(bool, std::size_t most) {
    // A name that is in no file system.
    const std::string address = "ipc://@shmpool_bench." + std::to_string(::getpid());
    child_.emplace([&] {
      const zeromq_context context;
      zeromq_socket(context, zeromq_socket::role::connects, address).echo(most);
    });
    context_.emplace();
    socket_.emplace(*context_, zeromq_socket::role::binds, address);
  }

  bool send(std::span<const std::byte> message) { return socket_->send(message); }
  std::size_t receive(std::span<std::byte> into, bool wait) { return socket_->receive(into, wait); }
  bool round_trip(std::span<const std::byte> message, std::span<std::byte> received) {
    return send(message) && receive(received, true) == received.size();
  }

 private:
  std::optional<child_process> child_;
  std::optional<zeromq_context> context_;  // made after the fork
  std::optional<zeromq_socket> socket_;
};

/// To another thread and back.
///
/// Thread safety: none.
class zeromq_inproc {
 public:
  static constexpr std::size_t most_outstanding = std::numeric_limits<std::size_t>::max();

  zeromq_inproc(bool, std::size_t most)
      : socket_(std::in_place, context_, zeromq_socket::role::binds, "inproc://bench"),
        echo_([this, most] { zeromq_socket(context_, zeromq_socket::role::connects, "inproc://bench").echo(most); }) {}
  zeromq_inproc(const zeromq_inproc&) = delete;
  zeromq_inproc& operator=(const zeromq_inproc&) = delete;
  ~zeromq_inproc() {
    context_.shutdown();
    socket_.reset();
  }

  bool send(std::span<const std::byte> message) { return socket_->send(message); }
  std::size_t receive(std::span<std::byte> into, bool wait) { return socket_->receive(into, wait); }
  bool round_trip(std::span<const std::byte> message, std::span<std::byte> received) {
    return send(message) && receive(received, true) == received.size();
  }

 private:
  zeromq_context context_;
  std::optional<zeromq_socket> socket_;
  std::jthread echo_;
};

}  // namespace bench
#endif
