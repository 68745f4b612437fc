#include "process/standard_streams.hpp"

#include "process/unique_fd.hpp"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <iostream>
#include <streambuf>

namespace shmpool {

namespace {

/// Whether the buffer is not empty: compares its begin with its write position. The standard gives these pointers to
/// derived classes only.
template <class Char>
bool has_pending(const std::basic_ostream<Char>& stream) noexcept {
  struct pointers : std::basic_streambuf<Char> {
    static bool differ(const std::basic_streambuf<Char>& buffer) {
      return (buffer.*&pointers::pptr)() != (buffer.*&pointers::pbase)();
    }
  };
  const auto* const buffer = stream.rdbuf();
  return buffer && pointers::differ(*buffer);
}

template <class Char>
void flush(std::basic_ostream<Char>& stream) noexcept {
  if (!has_pending(stream)) return;
  try {
    stream.rdbuf()->pubsync();
  } catch (...) {
    // A stream buffer of the program may throw. It has reported errors of its output to the code that printed.
  }
}

bool cxx_streams_pending() noexcept {
  return has_pending(std::cout) || has_pending(std::clog) || has_pending(std::wcout) || has_pending(std::wclog);
}

/// False also if unknown. A directory has two links, and one more for each directory in it.
bool is_only_thread() noexcept {
  struct stat threads {};
  return ::stat("/proc/self/task", &threads) == 0 && threads.st_nlink == 3;
}

/// While the object lives, writing to a pipe without a reader is an error in this thread and does not kill the process.
class broken_pipes_are_errors {
 public:
  broken_pipes_are_errors() noexcept {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    pending_before_ = ::sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
    ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  broken_pipes_are_errors(const broken_pipes_are_errors&) = delete;
  broken_pipes_are_errors& operator=(const broken_pipes_are_errors&) = delete;
  ~broken_pipes_are_errors() {
    constexpr timespec at_once{};
    if (!pending_before_) ::sigtimedwait(&pipe_, nullptr, &at_once);
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t pipe_, before_;
  bool pending_before_;
};

}  // namespace

void flush_standard_streams() noexcept {
  const bool c_pending = ::__fpending(stdout) != 0 || ::__fpending(stderr) != 0;
  const bool cxx_pending = cxx_streams_pending();
  if (!c_pending && !cxx_pending) return;
  const broken_pipes_are_errors guard;
  if (c_pending) {
    ::fflush(stdout);
    ::fflush(stderr);
  }
  if (cxx_pending && is_only_thread()) {
    flush(std::cout);
    flush(std::clog);
    flush(std::wcout);
    flush(std::wclog);
  }
}

void occupy_standard_streams() noexcept {
  for (int standard = STDIN_FILENO; standard <= STDERR_FILENO; ++standard) {
    if (::fcntl(standard, F_GETFD) >= 0) continue;
    const int opened = ::open("/dev/null", O_RDWR);          // the lowest number that is free
    if (opened != standard && opened >= 0) ::close(opened);  // another thread was faster
  }
}

bool read_dev_null() noexcept {
  const auto again = [](auto call) {
    int result;
    do {
      result = call();
    } while (result < 0 && errno == EINTR);
    return result;
  };
  unique_fd null(again([] { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }));
  if (!null) null = unique_fd(::memfd_create("shmpool.null", MFD_CLOEXEC));
  if (null.get() == STDIN_FILENO) return null.release() == STDIN_FILENO;
  return null && again([&] { return ::dup2(null.get(), STDIN_FILENO); }) == STDIN_FILENO;
}

}  // namespace shmpool
