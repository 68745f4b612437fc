// What the tests of the completion queues share: a fixture that runs a promise over both backends, sockets, and waiting
// with a watchdog.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loop/completion_queue.hpp"

namespace shmpool::loop {

inline bool is_readable(int fd, int timeout_ms = 0) {
  for (;;) {
    pollfd waited{.fd = fd, .events = POLLIN, .revents = 0};
    const int count = ::poll(&waited, 1, timeout_ms);
    if (count < 0 && errno == EINTR) continue;
    return count > 0;
  }
}

/// The next operation that ends; aborts if none does, since hanging would say less.
inline operation* next_ended(completion_queue& queue) {
  for (;;) {
    if (operation* op = queue.reap()) return op;
    if (!is_readable(queue.descriptor(), 20'000)) {
      std::fputs("watchdog: no operation ended within 20 s\n", stderr);
      std::abort();
    }
  }
}

/// A connected pair of stream sockets.
class socket_pair {
 public:
  explicit socket_pair(int flags = 0) {
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0, ends_.data()) != 0) std::abort();
  }
  socket_pair(const socket_pair&) = delete;
  socket_pair& operator=(const socket_pair&) = delete;
  ~socket_pair() {
    close_ours();
    close_theirs();
  }
  int ours() const { return ends_[0]; }
  int theirs() const { return ends_[1]; }
  void close_ours() { close_end(ends_[0]); }
  void close_theirs() { close_end(ends_[1]); }
  void write(std::string_view text) const {
    ASSERT_EQ(::send(theirs(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }

 private:
  static void close_end(int& fd) {
    if (fd >= 0) ::close(std::exchange(fd, -1));
  }
  std::array<int, 2> ends_{-1, -1};
};

/// A receive with its buffer.
struct receive_operation : operation {
  explicit receive_operation(int from, std::size_t capacity = 64) : buffer(capacity) {
    what = kind::receive;
    fd = from;
    data = buffer.data();
    size = capacity;
  }
  std::string text() const {
    return {reinterpret_cast<const char*>(buffer.data()), static_cast<std::size_t>(std::max(result, 0))};
  }
  std::vector<std::byte> buffer;
};

/// A send with its buffer.
struct send_operation : operation {
  send_operation(int to, std::string_view text)
      : buffer(reinterpret_cast<const std::byte*>(text.data()),
               reinterpret_cast<const std::byte*>(text.data()) + text.size()) {
    what = kind::send;
    fd = to;
    data = buffer.data();
    size = buffer.size();
  }
  std::vector<std::byte> buffer;
};

struct poll_operation : operation {
  poll_operation(kind which, int watched) {
    what = which;
    fd = watched;
  }
};

/// Bytes whose order shows.
inline std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  unsigned state = 12345;
  for (char& c : text) {
    state = state * 1664525U + 1013904223U;
    c = static_cast<char>(state >> 24);
  }
  return text;
}

class on_each_backend : public ::testing::TestWithParam<backend> {
 protected:
  std::unique_ptr<completion_queue> queue = make_completion_queue(GetParam());
};

inline std::string backend_name(const ::testing::TestParamInfo<backend>& info) {
  return info.param == backend::io_uring ? "io_uring" : "epoll";
}

#define SHMPOOL_ON_EACH_BACKEND(fixture)                                                                    \
  INSTANTIATE_TEST_SUITE_P(completion_queue, fixture, ::testing::Values(backend::io_uring, backend::epoll), \
                           backend_name)

}  // namespace shmpool::loop
