#include "wire/fd_passing.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace shmpool::wire {
namespace {

struct socket_pair {
  explicit socket_pair(int type) {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends), 0);
    a = unique_fd(ends[0]);
    b = unique_fd(ends[1]);
  }
  unique_fd a, b;
};

std::span<const std::byte> bytes(const char* text, std::size_t size) {
  return std::as_bytes(std::span(text, size));
}

TEST(fd_passing, bytes_and_descriptors_arrive_together) {
  socket_pair pair(SOCK_STREAM);
  int pipe_ends[2];
  ASSERT_EQ(::pipe2(pipe_ends, O_CLOEXEC), 0);
  const unique_fd out(pipe_ends[0]), in(pipe_ends[1]);
  const std::array fds{out.get(), in.get()};
  ASSERT_EQ(send_with_fds(pair.a.get(), bytes("hello", 5), fds, 0), 5);

  std::array<std::byte, 16> buffer{};
  std::vector<unique_fd> received;
  ASSERT_EQ(receive_with_fds(pair.b.get(), buffer, received, 0), 5);
  ASSERT_EQ(received.size(), 2U);
  ASSERT_EQ(::write(received[1].get(), "x", 1), 1);
  char c = 0;
  EXPECT_EQ(::read(out.get(), &c, 1), 1);
  EXPECT_EQ(c, 'x');
  EXPECT_EQ(::fcntl(received[0].get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

TEST(fd_passing, reports_the_end_and_errors_as_negative_errno) {
  socket_pair pair(SOCK_STREAM);
  std::array<std::byte, 16> buffer{};
  std::vector<unique_fd> received;
  EXPECT_EQ(receive_with_fds(pair.b.get(), buffer, received, MSG_DONTWAIT), -EAGAIN);
  pair.a.reset();
  EXPECT_EQ(receive_with_fds(pair.b.get(), buffer, received, 0), 0);
  EXPECT_EQ(send_with_fds(pair.b.get(), bytes("x", 1), {}, 0), -EPIPE);  // and no SIGPIPE
}

TEST(fd_passing, dropped_descriptors_are_an_error_and_not_silence) {
  socket_pair pair(SOCK_SEQPACKET);
  const int fd = pair.a.get();
  ASSERT_EQ(send_with_fds(pair.a.get(), bytes("x", 1), std::span(&fd, 1), 0), 1);
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit none{3, 3};
    ::setrlimit(RLIMIT_NOFILE, &none);
    std::array<std::byte, 16> buffer{};
    std::vector<unique_fd> received;
    ::_exit(receive_with_fds(pair.b.get(), buffer, received, 0) == -EMFILE && received.empty() ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace shmpool::wire
