#include "worker/fork_server.hpp"

#include "wire/fd_passing.hpp"
#include "wire/server_protocol.hpp"

#include <shmpool/error.hpp>
#include <shmpool/init.hpp>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace shmpool::worker {

namespace {

/// argv[1] of a program that is executed as the server; the parent's pid follows.
constexpr std::string_view server_argument = "--shmpool-fork-server=";
constexpr int server_socket = 3;

/// Makes the dynamic linker look up in the server, once, what each of its workers would look up anew in its first tasks.
/// Its value tells it from one that the user has set.
constexpr const char* bind_eagerly_name = "LD_BIND_NOW";
constexpr std::string_view bind_eagerly_value = "shmpool";
/// What a program leaves with that the dynamic linker cannot make ready.
constexpr int cannot_link = 127;

[[noreturn]] void throw_errno(int error, const char* call) {
  throw std::system_error(error, std::system_category(), call);
}

std::pair<unique_fd, unique_fd> seqpacket_pair(int flags) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0, ends) != 0) throw_errno(errno, "socketpair");
  return {unique_fd(ends[0]), unique_fd(ends[1])};
}

/// The environment of the server; `binding` has to outlive it.
std::vector<char*> server_environment(std::string& binding, bool bind_eagerly) {
  std::vector<char*> variables;
  for (char** each = environ; each && *each; ++each) variables.push_back(*each);
  binding = std::string(bind_eagerly_name) + "=" + std::string(bind_eagerly_value);
  if (bind_eagerly && !std::getenv(bind_eagerly_name)) variables.push_back(binding.data());
  variables.push_back(nullptr);
  return variables;
}

/// In the server: what it executes itself, or its workers do, is not meant.
void forget_eager_binding() {
  const char* const value = std::getenv(bind_eagerly_name);
  if (value && value == bind_eagerly_value) ::unsetenv(bind_eagerly_name);
}

unsigned thread_count() {
  std::FILE* status = std::fopen("/proc/self/status", "re");
  if (!status) return 2;  // cannot tell: assume the worse
  unsigned count = 2;
  std::array<char, 256> line{};
  while (std::fgets(line.data(), line.size(), status) != nullptr) {
    if (std::sscanf(line.data(), "Threads: %u", &count) == 1) break;
  }
  std::fclose(status);
  return count;
}

/// The one server of this process.
class fork_server {
 public:
  fork_server() noexcept;

  void remember_program(char** argv) {
    std::lock_guard lock(mutex_);
    program_ = argv;
  }

  bool can_execute() {
    std::lock_guard lock(mutex_);
    return program_ != nullptr;
  }

  void ensure() {
    std::lock_guard lock(mutex_);
    if (!root_) start(server_start::any);
  }

  unique_fd connect(std::uint64_t pool_id, server_start how) {
    std::lock_guard lock(mutex_);
    auto [ours, theirs] = seqpacket_pair(SOCK_NONBLOCK);
    bool new_here = !root_;
    if (new_here) start(how);
    int error;
    while ((error = introduce(pool_id, theirs.get())) == EPIPE || error == ECONNRESET) {
      reap(1000);  // it is dead or dying: its socket goes a moment before the process does
      if (new_here) refuse_the_hopeless();  // one of before may have had reasons that are gone
      start(how);
      new_here = true;
    }
    if (error != 0) throw_errno(error, "shmpool: sendmsg to the fork server");
    return std::move(ours);
  }

  std::string how_last_ended() {
    std::lock_guard lock(mutex_);
    return end_of_last();
  }

  /// A server has done something.
  void works() noexcept { fruitless_ = 0; }

  // A copy of the root socket in a process that the application forks would hide from the server that the application
  // has executed another program. The lock is held over the fork, so that the copy is not one of half a start.
  void before_fork() noexcept {
    if (!forking_) mutex_.lock();
  }
  void after_fork() noexcept {
    if (!forking_) mutex_.unlock();
  }
  void after_fork_in_copy() noexcept {
    forking_ = false;
    root_.reset();
    pid_ = 0;
    mutex_.unlock();
  }

  ~fork_server() {
    if (!root_ || owner_ != ::getpid()) return;
    // The server ends when it sees this. Closing alone would not tell it while a child that the application has forked
    // holds a copy.
    ::shutdown(root_.get(), SHUT_RDWR);
    reap(1000);
  }

 private:
  /// A server that ends at once would be started again for ever. It leaves by exit only when its parent has gone; else it
  /// is a program that does not get to init, or whose libraries are not there any more.
  void refuse_the_hopeless() {
    const bool left = last_status_ && WIFEXITED(*last_status_);
    if (!left && ++fruitless_ < most_fruitless) return;
    fruitless_ = 0;
    throw std::system_error(errc::fork_server, end_of_last());
  }

  std::string end_of_last() const {
    std::string end = "is dead";
    if (last_status_ && WIFEXITED(*last_status_)) end = "left with exit code " + std::to_string(WEXITSTATUS(*last_status_));
    else if (last_status_) end = "was killed by signal " + std::to_string(WTERMSIG(*last_status_));
    return "the fork server is this program executed again, which " + end +
           " before it did anything; is shmpool::init(argc, argv) the first line of main?";
  }

  void start(server_start how) {
    if (program_) {
      execute();
    } else if (how == server_start::only_executing) {
      throw std::system_error(errc::fork_server,
                              "only a program that calls shmpool::init(argc, argv) as the first line of main can start "
                              "it again while pools exist");
    } else if (const unsigned threads = thread_count(); threads > 1) {
      throw std::system_error(
          errc::fork_server,
          "the process has " + std::to_string(threads) +
              " threads, and forking it now is not safe; call shmpool::init(argc, argv) as the first line of main, or "
              "construct the first pool before any thread is started");
    } else {
      fork();
    }
    owner_ = ::getpid();
  }

  /// Executes this very program: /proc/self/exe is the running image even if the file was replaced or removed.
  void execute() {
    auto [ours, theirs] = seqpacket_pair(0);
    const std::string marker = std::string(server_argument) + std::to_string(::getpid());
    char* arguments[] = {program_[0], const_cast<char*>(marker.c_str()), nullptr};
    std::string binding;
    const std::vector<char*> environment = server_environment(binding, bind_eagerly_);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    ::posix_spawnattr_setsigdefault(&attributes, &all);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    int error = ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), server_socket);
    if (error == 0) error = ::posix_spawn(&pid_, "/proc/self/exe", &actions, &attributes, arguments, environment.data());
    ::posix_spawnattr_destroy(&attributes);
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) {
      pid_ = 0;
      throw std::system_error(errc::fork_server,
                              std::string("posix_spawn of /proc/self/exe: ") + std::system_category().message(error));
    }
    root_ = std::move(ours);
  }

  void fork() {
    auto [ours, theirs] = seqpacket_pair(0);
    const pid_t parent = ::getpid();
    std::fflush(nullptr);  // what is buffered must not be printed twice
    forking_ = true;       // no other thread is there to see it
    const pid_t pid = ::fork();
    if (pid < 0) {
      forking_ = false;
      throw std::system_error(errc::fork_server, std::string("fork: ") + std::system_category().message(errno));
    }
    if (pid == 0) run_fork_server(theirs.get(), parent);
    forking_ = false;
    pid_ = pid;
    root_ = std::move(ours);
  }

  int introduce(std::uint64_t pool_id, int channel) {
    const wire::open_pool_message message{pool_id};
    const ssize_t sent = wire::send_with_fds(root_.get(), std::as_bytes(std::span(&message, 1)), std::span(&channel, 1), 0);
    return sent < 0 ? static_cast<int>(-sent) : 0;
  }

  /// Takes note of the server's end, waiting for it at most `milliseconds`.
  void reap(int milliseconds) noexcept {
    root_.reset();
    last_status_.reset();
    if (pid_ == 0) return;
    unique_fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    if (process) {
      pollfd ended{process.get(), POLLIN, 0};
      while (::poll(&ended, 1, milliseconds) < 0 && errno == EINTR) {
      }
    }
    int status = 0;
    if (::waitpid(std::exchange(pid_, 0), &status, WNOHANG) <= 0) return;  // somebody else has waited for it
    if (bind_eagerly_ && WIFEXITED(status) && WEXITSTATUS(status) == cannot_link) {
      bind_eagerly_ = false;  // something refers to a function that is not there, and is never called
    } else {
      last_status_ = status;
    }
  }

  std::mutex mutex_;
  char** program_ = nullptr;
  pid_t owner_ = 0;
  pid_t pid_ = 0;
  std::optional<int> last_status_;  // of the server that died last
  bool bind_eagerly_ = true;        // until a server could not be started so
  unique_fd root_;
  /// How many in a row may be killed before they do anything. That can be bad luck.
  static constexpr int most_fruitless = 5;
  std::atomic<int> fruitless_{0};
  bool forking_ = false;  // the fork is its own, and it holds the lock already
};

fork_server& this_process() {
  static fork_server server;
  return server;
}

fork_server::fork_server() noexcept {
  // Where it fails (no memory), copies keep the socket as long as they live.
  ::pthread_atfork([] { this_process().before_fork(); }, [] { this_process().after_fork(); },
                   [] { this_process().after_fork_in_copy(); });
}

}  // namespace

void remember_program(char** argv) {
  this_process().remember_program(argv);
}

void server_works() noexcept {
  this_process().works();
}

bool can_execute_server() noexcept {
  return this_process().can_execute();
}

std::string how_server_ended() {
  return this_process().how_last_ended();
}

void ensure_fork_server() {
  this_process().ensure();
}

unique_fd connect_pool(std::uint64_t pool_id, server_start how) {
  return this_process().connect(pool_id, how);
}

}  // namespace shmpool::worker

void shmpool::init(int argc, char** argv) {
  using namespace shmpool::worker;
  if (argc == 2) {
    const std::string_view argument = argv[1];
    if (argument.starts_with(server_argument)) {
      pid_t parent = 0;
      const std::string_view number = argument.substr(server_argument.size());
      const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), parent);
      if (error != std::errc{} || end != number.data() + number.size()) std::exit(2);
      forget_eager_binding();
      run_fork_server(server_socket, parent);
    }
  }
  remember_program(argv);
}
