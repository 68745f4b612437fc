#include "pool/fork_server.hpp"

#include "code/program_file.hpp"
#include "pool/privileges.hpp"
#include "pool/surroundings.hpp"
#include "process/mutex.hpp"
#include "process/no_destructor.hpp"
#include "process/process_status.hpp"
#include "process/program_start.hpp"
#include "process/server_environment.hpp"
#include "process/standard_streams.hpp"
#include "server/server_main.hpp"
#include "wire/fd_passing.hpp"
#include "wire/server_protocol.hpp"

#include <shmpool/error.hpp>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace shmpool::pool {

namespace {

/// Exit code of a program that the dynamic linker cannot load.
constexpr int cannot_link = 127;

[[noreturn]] void throw_errno(int error, const char* call) {
  throw std::system_error(error, std::system_category(), call);
}

std::pair<unique_fd, unique_fd> seqpacket_pair(int flags) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0, ends) != 0) throw_errno(errno, "socketpair");
  return {unique_fd(ends[0]), unique_fd(ends[1])};
}

std::string several_threads(unsigned count) {
  return "the process has " + std::to_string(count) +
         " threads, and forking it now is not safe; call shmpool::init(argc, argv) as the first line of main, or "
         "construct the first pool before any thread is started";
}

/// A process that was started as a server, but makes a pool before it calls init, would start a server in turn.
void leave_if_not_a_server_yet() noexcept {
  if (awaits_init()) ::_exit(pool_before_init);
}

/// How a server may be started if there is none.
enum class server_start : std::uint8_t {
  any,             ///< by executing this program again if it called init, else by fork if it has only one thread
  only_executing,  ///< for a pool that has lost its server: forking now would copy its arrays
};

/// The servers of this process: one for all pools, as long as the privileges of the process do not change.
class fork_server {
 public:
  fork_server() noexcept;

  void ensure() {
    leave_if_not_a_server_yet();
    const mutex_lock lock(mutex_);
    leave_to_former_pools();
    if (!root_) start(server_start::any);
  }

  unique_fd connect(std::uint64_t pool_id, const surroundings& with, server_start how) {
    leave_if_not_a_server_yet();
    const mutex_lock lock(mutex_);
    if (!privileges::now().within(with.made_with())) {
      throw std::system_error(errc::fork_server,
                              "the process has gained privileges since the pool was made, which "
                              "workers of the pool must not get");
    }
    auto [ours, theirs] = seqpacket_pair(SOCK_NONBLOCK);
    leave_to_former_pools();
    bool new_here = !root_;
    if (new_here) start(how);
    int error;
    while ((error = introduce(pool_id, with, theirs.get())) == EPIPE || error == ECONNRESET) {
      reap(1000);  // the server is dead or dying: its socket closes a moment before the process ends
      if (new_here || took_too_long()) refuse_the_hopeless();  // an old server may have died of a past cause
      start(how);
      new_here = true;
    }
    if (error != 0) throw_errno(error, "shmpool: sendmsg to the fork server");
    return std::move(ours);
  }

  bool last_took_too_long() {
    const mutex_lock lock(mutex_);
    return took_too_long();
  }

  std::string how_last_ended() {
    const mutex_lock lock(mutex_);
    return end_of_last();
  }

  /// A server has started a worker.
  void works() noexcept { fruitless_ = 0; }

  // A copy of the root socket in a child that the application forks would hide from the server that the application
  // has executed another program. The lock is held over the fork, so that the child copies no half-started server.
  void before_fork() noexcept SHMPOOL_NO_THREAD_SAFETY_ANALYSIS {
    if (!forking_) mutex_.lock();
  }
  void after_fork() noexcept SHMPOOL_NO_THREAD_SAFETY_ANALYSIS {
    if (!forking_) mutex_.unlock();
  }
  void after_fork_in_copy() noexcept SHMPOOL_NO_THREAD_SAFETY_ANALYSIS {
    forking_ = false;
    root_.reset();
    former_.clear();
    pid_ = 0;
    mutex_.unlock();
  }

  /// At the end of the process.
  void end() noexcept {
    // Another thread may be starting a server; that server sees that its parent has gone.
    if (!mutex_.try_lock()) return;
    if (owner_ == ::getpid()) end_all();
    mutex_.unlock();
  }

 private:
  void end_all() noexcept SHMPOOL_REQUIRES(mutex_) {
    // A server ends when it sees the shutdown. It would not notice a mere close while a child that the application has
    // forked holds a copy of the socket.
    if (root_) ::shutdown(root_.get(), SHUT_RDWR);
    for (const former& each : former_) ::shutdown(each.root.get(), SHUT_RDWR);
    if (root_) reap(1000);
    for (former& each : former_) {
      root_ = std::move(each.root);
      pid_ = each.pid;
      reap(1000);
    }
    former_.clear();
  }

  /// If the present server was started with other privileges, it keeps its pools, and new pools get another server: a
  /// former one with the present privileges, if it is alive.
  void leave_to_former_pools() SHMPOOL_REQUIRES(mutex_) {
    privileges now = privileges::now();
    if (!root_ || now == started_with_) return;
    former_.reserve(former_.size() + 1);
    former_.push_back({std::move(root_), std::exchange(pid_, 0), std::move(started_with_), std::move(environment_)});
    for (std::size_t i = 0; i != former_.size();) {
      former& each = former_[i];
      pollfd hung_up{each.root.get(), 0, 0};
      const bool dead = ::poll(&hung_up, 1, 0) == 1;
      if (!dead && each.with != now) {
        ++i;
        continue;
      }
      root_ = std::move(each.root);
      pid_ = each.pid;
      if (dead) {
        reap(1000);
      } else {
        started_with_ = std::move(each.with);
        environment_ = std::move(each.environment);
      }
      former_.erase(former_.begin() + static_cast<std::ptrdiff_t>(i));
      if (root_) return;
    }
  }

  bool took_too_long() const noexcept SHMPOOL_REQUIRES(mutex_) {
    return last_status_ && WIFSIGNALED(*last_status_) && WTERMSIG(*last_status_) == SIGALRM;
  }

  /// A server that ends at once would be restarted for ever. A working server exits only when its parent has gone; else
  /// the program does not get to init, or its libraries have vanished.
  void refuse_the_hopeless() SHMPOOL_REQUIRES(mutex_) {
    const bool left = last_status_ && WIFEXITED(*last_status_);
    if (!left && !took_too_long() && ++fruitless_ < most_fruitless) return;
    fruitless_ = 0;
    throw std::system_error(errc::fork_server, end_of_last());
  }

  std::string end_of_last() const SHMPOOL_REQUIRES(mutex_) {
    const std::string server = "the fork server is this program executed again, which ";
    const std::string advice = "is shmpool::init(argc, argv) the first line of main?";
    if (took_too_long()) {
      return server + "did not get to shmpool::init within " + std::to_string(start_patience_seconds) + " s; " + advice;
    }
    if (last_status_ && WIFEXITED(*last_status_)) {
      switch (WEXITSTATUS(*last_status_)) {
        case pool_before_init: return server + "made a pool before it called shmpool::init; " + advice;
        case refused_privileges:
          return server + "would have gained privileges (it is set-user-ID, or has capabilities), which were refused";
        case threads_from_the_start:
          return server +
                 "has several threads before its own constructors run, as a library that it is linked with starts one; "
                 "forking it is not safe";
        default: break;
      }
    }
    std::string end = "died";
    if (last_status_ && WIFEXITED(*last_status_))
      end = "left with exit code " + std::to_string(WEXITSTATUS(*last_status_));
    else if (last_status_) end = "was killed by signal " + std::to_string(WTERMSIG(*last_status_));
    return server + end + " before it did anything; " + advice;
  }

  void start(server_start how) SHMPOOL_REQUIRES(mutex_) {
    started_with_ = privileges::now();
    environment_ = environment_now();
    if (init_was_called()) {
      execute();
    } else if (how == server_start::only_executing) {
      throw std::system_error(errc::fork_server,
                              "only a program that calls shmpool::init(argc, argv) as the first line of main can start "
                              "it again while pools exist");
    } else if (const unsigned threads = process_status().threads(); threads > 1) {
      throw std::system_error(errc::fork_server, several_threads(threads));
    } else {
      fork();
    }
    owner_ = ::getpid();
  }

  void execute() SHMPOOL_REQUIRES(mutex_) {
    auto [ours, theirs] = seqpacket_pair(0);
    const std::string file = code::find_program_file();
    // May run in another thread while this one holds the lock and waits for it.
    const auto spawn = [&, socket = theirs.get()]()
                           SHMPOOL_NO_THREAD_SAFETY_ANALYSIS { return spawn_server(file, socket); };
    int error = 0;
    if (code::gives_privileges(file) || started_with_.grow_by_executing()) {
      // PR_SET_NO_NEW_PRIVS lasts, so a temporary thread sets it for itself only. The server inherits it: programs that
      // tasks start gain no privileges either.
      std::thread([&] {
        try {
          error = ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? spawn() : errno;
        } catch (const std::bad_alloc&) {
          error = ENOMEM;
        }
      }).join();
    } else {
      error = spawn();
    }
    if (error != 0) {
      pid_ = 0;
      throw std::system_error(errc::fork_server,
                              "posix_spawn of " + file + ": " + std::system_category().message(error));
    }
    root_ = std::move(ours);
  }

  int spawn_server(const std::string& file, int socket) SHMPOOL_REQUIRES(mutex_) {
    constexpr int server_socket = 3;
    server_environment environment(::getpid(), server_mode::at_init, server_socket, bind_eagerly_);
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
    int error = ::posix_spawn_file_actions_adddup2(&actions, socket, server_socket);
#if SHMPOOL_HAS_SPAWN_CLOSEFROM
    if (error == 0) error = ::posix_spawn_file_actions_addclosefrom_np(&actions, server_socket + 1);
#endif
    if (error == 0)
      error = ::posix_spawn(&pid_, file.c_str(), &actions, &attributes, program_arguments(), environment.variables());
    ::posix_spawnattr_destroy(&attributes);
    ::posix_spawn_file_actions_destroy(&actions);
    return error;
  }

  void fork() SHMPOOL_REQUIRES(mutex_) {
    auto [ours, theirs] = seqpacket_pair(0);
    const pid_t parent = ::getpid();
    std::fflush(nullptr);  // buffered output must not be printed twice
    flush_standard_streams();
    forking_ = true;  // no data race: there is no other thread
    const pid_t pid = ::fork();
    if (pid < 0) {
      forking_ = false;
      throw std::system_error(errc::fork_server, std::string("fork: ") + std::system_category().message(errno));
    }
    if (pid == 0) {
      server::run_forked(std::move(theirs), parent);
    }
    forking_ = false;
    pid_ = pid;
    root_ = std::move(ours);
  }

  int introduce(std::uint64_t pool_id, const surroundings& with, int channel) SHMPOOL_REQUIRES(mutex_) {
    std::vector<unique_fd> owned;
    const wire::open_pool_message message{pool_id, with.describe(environment_, owned)};
    std::vector<int> descriptors{channel};
    for (const unique_fd& each : owned) descriptors.push_back(each.get());
    const ssize_t sent =
        wire::send_with_fds(root_.get(), std::as_bytes(std::span(&message, 1)), descriptors, MSG_DONTWAIT);
    return sent < 0 ? static_cast<int>(-sent) : 0;
  }

  /// Waits at most `milliseconds` for the server's end, and records its status.
  void reap(int milliseconds) noexcept SHMPOOL_REQUIRES(mutex_) {
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
    if (::waitpid(std::exchange(pid_, 0), &status, WNOHANG) <= 0) return;  // other code has reaped it
    if (bind_eagerly_ && WIFEXITED(status) && WEXITSTATUS(status) == cannot_link) {
      bind_eagerly_ = false;  // the program refers to a missing function that it never calls
    } else {
      last_status_ = status;
    }
  }

  struct former {
    unique_fd root;
    pid_t pid;
    privileges with;
    std::string environment;
  };

  mutex mutex_;
  privileges started_with_ SHMPOOL_GUARDED_BY(mutex_);     // of the server
  std::string environment_ SHMPOOL_GUARDED_BY(mutex_);     // of the server
  std::vector<former> former_ SHMPOOL_GUARDED_BY(mutex_);  // servers of pools that were made with other privileges
  pid_t owner_ SHMPOOL_GUARDED_BY(mutex_) = 0;
  pid_t pid_ SHMPOOL_GUARDED_BY(mutex_) = 0;
  std::optional<int> last_status_ SHMPOOL_GUARDED_BY(mutex_);  // of the server that died last
  bool bind_eagerly_ SHMPOOL_GUARDED_BY(mutex_) = true;        // until a server could not be started that way
  unique_fd root_ SHMPOOL_GUARDED_BY(mutex_);
  /// How many servers in a row may be killed before they do anything: that can be bad luck.
  static constexpr int most_fruitless = 5;
  std::atomic<int> fruitless_{0};
  bool forking_ = false;  // fork() of this class is forking, and holds the lock already
};

/// The object is never destroyed, because destructors of static objects may fork or make pools; but at_exit ends its
/// servers.
fork_server& this_process() {
  static no_destructor<fork_server> instance;
  static const struct ender {
    ~ender() { instance.value.end(); }
  } at_exit;
  return instance.value;
}

fork_server::fork_server() noexcept {
  // If this fails (no memory), forked children keep the socket as long as they live.
  ::pthread_atfork([] { this_process().before_fork(); }, [] { this_process().after_fork(); },
                   [] { this_process().after_fork_in_copy(); });
}

}  // namespace

void ensure_fork_server() {
  this_process().ensure();
}

namespace {

class servers final : public server_channel::source {
 public:
  explicit servers(std::uint64_t pool_id) : pool_id_(pool_id) {}

  unique_fd connect(bool again) override {
    return this_process().connect(pool_id_, surroundings_, again ? server_start::only_executing : server_start::any);
  }
  bool may_try_again() override { return init_was_called() && !this_process().last_took_too_long(); }
  std::string how_it_ended() override { return this_process().how_last_ended(); }
  void works() noexcept override { this_process().works(); }

 private:
  const std::uint64_t pool_id_;
  const surroundings surroundings_;
};

}  // namespace

std::unique_ptr<server_channel::source> servers_for(std::uint64_t pool_id) {
  return std::make_unique<servers>(pool_id);
}

}  // namespace shmpool::pool
