#include "process/standard_streams.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <latch>
#include <sstream>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <thread>

namespace shmpool {
namespace {

/// Runs `body` in a child whose standard output and standard error go to files, and returns what was there when it had
/// ended by _exit: what it left in buffers is lost.
struct outcome {
  int status = -1;
  std::string out, error;
};

std::string contents(int fd) {
  std::string text(4096, '\0');
  const ssize_t size = ::pread(fd, text.data(), text.size(), 0);
  text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  return text;
}

template <class Body>
outcome in_child(Body body) {
  const int out = ::open("/tmp", O_TMPFILE | O_RDWR, 0600);
  const int error = ::open("/tmp", O_TMPFILE | O_RDWR, 0600);
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(out, STDOUT_FILENO);
    ::dup2(error, STDERR_FILENO);
    std::setvbuf(stdout, nullptr, _IOFBF, 4096);
    body();
    ::_exit(0);
  }
  outcome result;
  ::waitpid(pid, &result.status, 0);
  result.out = contents(out);
  result.error = contents(error);
  ::close(out);
  ::close(error);
  return result;
}

TEST(standard_streams, are_written_whichever_way_was_printed) {
  const auto result = in_child([] {
    std::setvbuf(stderr, nullptr, _IOFBF, 4096);
    std::fputs("stdout ", stdout);
    std::cout << "cout";
    std::fputs("stderr ", stderr);
    std::clog << "clog";
    flush_standard_streams();
  });
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.out, "stdout cout");
  EXPECT_EQ(result.error, "stderr clog");
}

TEST(standard_streams, are_written_where_cxx_streams_have_buffers_of_their_own) {
  const auto result = in_child([] {
    std::ios::sync_with_stdio(false);
    std::cout << "cout";
    std::clog << "clog";
    flush_standard_streams();
  });
  EXPECT_EQ(result.out, "cout");
  EXPECT_EQ(result.error, "clog");
}

// A buffer without a lock cannot be written under the feet of a thread that may be printing.
TEST(standard_streams, leave_buffers_without_a_lock_alone_while_there_are_other_threads) {
  const auto result = in_child([] {
    std::ios::sync_with_stdio(false);
    std::latch started(2), end(1);
    std::thread other([&] {
      started.arrive_and_wait();
      end.wait();
    });
    started.arrive_and_wait();
    std::fputs("stdout ", stdout);
    std::cout << "cout";
    flush_standard_streams();
    const auto written = contents(STDOUT_FILENO);
    end.count_down();
    other.join();
    // join() can return a moment before the kernel has forgotten the thread.
    while (std::distance(std::filesystem::directory_iterator("/proc/self/task"), {}) != 1) std::this_thread::yield();
    if (written != "stdout ") ::_exit(1);
    flush_standard_streams();
  });
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.out, "stdout cout");
}

class refusing_buffer : public std::streambuf {
 public:
  refusing_buffer() { setp(room_, room_ + sizeof room_); }

 private:
  int sync() override { throw std::runtime_error("no"); }
  char room_[16];
};

TEST(standard_streams, may_have_buffers_of_the_program_or_none) {
  std::ostringstream text;
  refusing_buffer refusing;
  auto* const before = std::cout.rdbuf(text.rdbuf());
  std::cout << "kept";
  flush_standard_streams();
  std::cout.rdbuf(&refusing);
  std::cout << "refused";
  flush_standard_streams();
  std::cout.rdbuf(nullptr);
  flush_standard_streams();
  std::cout.rdbuf(before);
  EXPECT_EQ(text.str(), "kept");
}

TEST(standard_streams, drop_what_a_pipe_without_reader_does_not_take) {
  const auto result = in_child([] {
    int ends[2];
    if (::pipe(ends) != 0) ::_exit(1);
    ::close(ends[0]);
    ::dup2(ends[1], STDOUT_FILENO);
    ::signal(SIGPIPE, SIG_DFL);
    for (int i = 0; i != 2; ++i) {
      std::fputs("nobody reads this", stdout);
      flush_standard_streams();
    }
    sigset_t pending;
    ::sigpending(&pending);
    if (sigismember(&pending, SIGPIPE) != 0) ::_exit(2);
    ::sigprocmask(SIG_BLOCK, nullptr, &pending);
    if (sigismember(&pending, SIGPIPE) != 0) ::_exit(3);
  });
  EXPECT_EQ(result.status, 0);
}

}  // namespace
}  // namespace shmpool
