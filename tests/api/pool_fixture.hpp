// What tests with real pools share: options that follow the environment, a way to run a coroutine to its end under a
// watchdog, and programs within the program that may be killed.
#pragma once

#include <shmpool.hpp>

#include <asio.hpp>

#include <gtest/gtest.h>

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace shmpool::testing {

/// pool_options for tests: two workers; SHMPOOL_BACKEND=epoll or io_uring and SHMPOOL_BACKING=posix or memfd choose.
inline pool_options options() {
  pool_options result;
  result.workers = 2;
  const auto variable = [](const char* name) -> std::string_view {
    const char* value = std::getenv(name);
    return value ? value : "";
  };
  if (variable("SHMPOOL_BACKEND") == "epoll") result.backend = backend::epoll;
  if (variable("SHMPOOL_BACKEND") == "io_uring") result.backend = backend::io_uring;
  if (variable("SHMPOOL_BACKING") == "memfd") result.backing = backing::memfd;
  if (variable("SHMPOOL_BACKING") == "posix") result.backing = backing::posix;
  return result;
}

/// Ends the test program, with a message, if it is still there after a time: a hang must not stall the suite.
class watchdog {
 public:
  explicit watchdog(std::chrono::seconds patience = std::chrono::seconds(60)) {
    ::signal(SIGALRM, [](int) {
      constexpr std::string_view message = "watchdog: the test hangs\n";
      [[maybe_unused]] auto written = ::write(STDERR_FILENO, message.data(), message.size());
      ::abort();
    });
    outer_ = ::alarm(static_cast<unsigned>(patience.count()));
  }
  watchdog(const watchdog&) = delete;
  watchdog& operator=(const watchdog&) = delete;
  ~watchdog() { ::alarm(outer_); }

 private:
  unsigned outer_ = 0;  // seconds that a watchdog around this one had left
};

/// Runs `io` until nothing is left to do, and throws what the coroutine threw; returns what it returned.
template <class T, class Executor>
T run(asio::io_context& io, asio::awaitable<T, Executor> coroutine) {
  const watchdog guard;
  std::exception_ptr error;
  if constexpr (std::is_void_v<T>) {
    asio::co_spawn(io, std::move(coroutine), [&](std::exception_ptr e) { error = e; });
    io.run();
    io.restart();
    if (error) std::rethrow_exception(error);
  } else {
    std::optional<T> result;
    asio::co_spawn(io, std::move(coroutine), [&](std::exception_ptr e, T value) {
      error = e;
      if (!e) result.emplace(std::move(value));
    });
    io.run();
    io.restart();
    if (error) std::rethrow_exception(error);
    return std::move(result.value());
  }
}

template <class T, class Executor>
T run(asio::awaitable<T, Executor> coroutine) {
  asio::io_context io;
  return run(io, std::move(coroutine));
}

/// Runs `body` in a forked child and returns its wait status; the child leaves by _exit(body()). For what would change
/// or end the test program: limits, namespaces, signals. The child has no pool of its parent's and makes its own.
template <class Body>
int in_child(Body body, std::chrono::seconds patience = std::chrono::seconds(60)) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    int code = 255;
    try {
      code = body();
    } catch (const std::exception& error) {
      const std::string text = std::string("child: ") + error.what() + "\n";
      [[maybe_unused]] auto written = ::write(STDERR_FILENO, text.data(), text.size());
    } catch (...) {
    }
    ::_exit(code);
  }
  const int process = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  pollfd ended{process, POLLIN, 0};
  if (::poll(&ended, 1, static_cast<int>(patience.count()) * 1000) <= 0) ::kill(pid, SIGKILL);
  ::close(process);
  int status = -1;
  ::waitpid(pid, &status, 0);
  return status;
}

}  // namespace shmpool::testing
