#include "server/server_loop.hpp"

#include "process/fault_point.hpp"
#include "process/own_descriptors.hpp"
#include "process/program_start.hpp"
#include "server/descendants.hpp"
#include "server/oom_score.hpp"
#include "shm/mapping.hpp"
#include "wire/fd_passing.hpp"
#include "wire/server_protocol.hpp"
#include "worker/become_worker.hpp"
#include "worker/received_surroundings.hpp"
#include "worker/worker_main.hpp"

#include <shmpool/shm_handle.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <deque>
#include <memory>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

namespace shmpool::server {

namespace {

/// How often in a row, 5 ms apart, a call may fail because the kernel is short of a resource.
constexpr unsigned most_failures = 400;

bool is_shortage(ssize_t result) noexcept {
  return result == -ENOMEM || result == -ENOBUFS || result == -ETOOMANYREFS;
}

std::uint64_t microseconds(const timeval& time) noexcept {
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000 + static_cast<std::uint64_t>(time.tv_usec);
}

int pidfd_open(pid_t pid) noexcept {
  return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
}

class server_loop {
 public:
  server_loop(unique_fd root, pid_t parent, bool null_input, bool early)
      : self_(::getpid()), parent_(parent), null_input_(null_input), early_(early), root_(std::move(root)) {
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &children, nullptr);
    signals_ = move_out_of_the_way(unique_fd(::signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK)));
    parent_process_ = move_out_of_the_way(unique_fd(pidfd_open(parent)));
    // The pid may belong to another process by now, but getppid() names our parent for as long as it lives.
    if (::getppid() != parent) parent_gone_ = true;
  }

  server_loop(const server_loop&) = delete;
  server_loop& operator=(const server_loop&) = delete;

  /// Never returns; but in a worker of an early server it throws early_worker.
  [[noreturn]] void run() {
    while (!parent_gone_) wait_and_serve();
    end_workers();
    shm::unlink_pools(std::move(pool_ids_));
    reap_orphans();  // names of a pool that the parent was making and could not introduce any more
    ::_exit(0);
  }

 private:
  struct pool {
    std::uint64_t id;
    unique_fd channel;
    worker::received_surroundings with;
    // Messages for which the socket had no room yet.
    struct unsent {
      wire::server_message message;
      unique_fd descriptor;
    };
    std::deque<unsent> outbox;
    unsigned failures = 0;  // of sending to the pool, in a row
  };

  struct child {
    pid_t pid;
    std::uint32_t worker;
    pool* owner;  // null once the pool is closed
    bool leave_descendants;
  };

  child* find(pid_t pid) noexcept {
    const auto found =
        std::find_if(children_.begin(), children_.end(), [&](const child& each) { return each.pid == pid; });
    return found == children_.end() ? nullptr : &*found;
  }

  void wait_and_serve() {
    std::vector<pollfd> wait{{root_.get(), POLLIN, 0}, {signals_.get(), POLLIN, 0}, {parent_process_.get(), POLLIN, 0}};
    for (const auto& each : pools_) {
      wait.push_back({each->channel.get(),
                      static_cast<short>(POLLIN | (each->outbox.empty() || each->failures != 0 ? 0 : POLLOUT)), 0});
    }
    // Without a descriptor to wait for signals or for the parent's end, check both at intervals.
    const bool blind = !signals_ || !parent_process_;
    const bool stuck = std::any_of(pools_.begin(), pools_.end(), [](const auto& each) { return each->failures != 0; });
    if (::poll(wait.data(), wait.size(), stuck ? 5 : blind ? 50 : -1) < 0) {
      if (errno != EINTR) pause_or_leave(poll_failures_);
      return;
    }
    poll_failures_ = 0;
    if (blind) {
      if (::getppid() != parent_) parent_gone_ = true;
      reap();
    }
    if (wait[2].revents != 0) {
      parent_gone_ = true;
      return;
    }
    if (wait[1].revents != 0) reap();
    for (std::size_t i = 3; i != wait.size(); ++i) {
      if ((wait[i].revents & POLLOUT) != 0 || pools_[i - 3]->failures != 0) flush(*pools_[i - 3]);
      if ((wait[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0) serve(*pools_[i - 3]);
    }
    std::erase_if(pools_, [](const auto& each) { return !each->channel; });
    if (wait[0].revents != 0) accept_pool();
  }

  /// The kernel cannot serve a call now: pauses, or leaves after too many failures; the parent starts a new server.
  void pause_or_leave(unsigned& failures) {
    if (++failures < most_failures) {
      ::usleep(5000);
      return;
    }
    for (const child& each : children_) ::kill(each.leave_descendants ? each.pid : -each.pid, SIGKILL);
    ::_exit(1);
  }

  /// Kills the workers and the processes that they have started.
  void end_workers() {
    for (const child& each : children_) {
      ::kill(each.pid, SIGKILL);
      if (!each.leave_descendants) descendants_.end_session(each.pid);  // the worker is not reaped yet
    }
    // A worker that is traced, or that waits for a disk, must not keep the server from removing names.
    for (int pauses = 0; !children_.empty() && pauses != 1000; ++pauses) {
      std::erase_if(children_, [](const child& each) { return ::waitpid(each.pid, nullptr, WNOHANG) != 0; });
      if (!children_.empty()) ::usleep(1000);
    }
    // If a pool wants its daemons left, the server cannot tell them from those of other pools.
    if (leaves_descendants_) descendants_.look([](pid_t) { return false; });
    else descendants::end_all();
  }

  void accept_pool() {
    wire::open_pool_message message{};
    std::vector<unique_fd> fds;
    const ssize_t received =
        wire::receive_with_fds(root_.get(), std::as_writable_bytes(std::span(&message, 1)), fds, MSG_DONTWAIT);
    if (received == -EAGAIN) return;
    if (is_shortage(received)) return pause_or_leave(receive_failures_);
    receive_failures_ = 0;
    if (received == -EMFILE || received == -ENFILE) return;  // the pool sees its socket closed
    if (received <= 0) {
      parent_gone_ = true;  // ended, or executed another program
      return;
    }
    if (received != sizeof message || fds.empty()) return;
    try {
      worker::received_surroundings with(message.with, fds, 1);
      // The thread that started the server may have had other CPUs than the process.
      if (CPU_COUNT(&with.cpus()) != 0) ::sched_setaffinity(0, sizeof(cpu_set_t), &with.cpus());
      unique_fd channel = move_out_of_the_way(std::move(fds.front()));
      if (!channel) return;
      pools_.push_back(std::make_unique<pool>(pool{message.pool_id, std::move(channel), std::move(with), {}}));
    } catch (const std::system_error&) {
      return;  // the pool sees its socket closed
    }
    pool_ids_.push_back(message.pool_id);
  }

  void serve(pool& from) {
    for (;;) {
      wire::spawn_message message{};
      std::vector<unique_fd> fds;
      const ssize_t received =
          wire::receive_with_fds(from.channel.get(), std::as_writable_bytes(std::span(&message, 1)), fds, MSG_DONTWAIT);
      if (received == -EAGAIN) return;
      if (is_shortage(received)) return pause_or_leave(receive_failures_);
      receive_failures_ = 0;
      if (received == -EMFILE) {
        report_failure(from, message.head.worker, EMFILE, wire::failed_call::receive_descriptors);
        continue;
      }
      if (received < static_cast<ssize_t>(sizeof message.head)) return close(from);
      switch (message.head.type) {
        case wire::server_message_type::spawn:
          if (received == sizeof message && fds.size() == 2) {
            spawn(from, message, std::move(fds[0]), std::move(fds[1]));
          } else {
            report_failure(from, message.head.worker, EMFILE, wire::failed_call::receive_descriptors);
          }
          break;
        case wire::server_message_type::kill:
          for (const child& each : children_) {
            if (each.owner == &from && each.worker == message.head.worker) ::kill(each.pid, SIGKILL);
          }
          break;
        default: return close(from);
      }
    }
  }

  void spawn(pool& owner, const wire::spawn_message& message, unique_fd socket, unique_fd control) {
    SHMPOOL_FAULT_POINT("server.asked");
    socket = move_out_of_the_way(std::move(socket));
    control = move_out_of_the_way(std::move(control));
    if (!socket || !control)
      return report_failure(owner, message.head.worker, EMFILE, wire::failed_call::receive_descriptors);
    // Room for its pidfd: a worker that exists may have begun a task by the time that there turns out to be none.
    unique_fd room = move_out_of_the_way(unique_fd(::fcntl(root_.get(), F_DUPFD_CLOEXEC, 0)));
    if (!room) return report_failure(owner, message.head.worker, errno, wire::failed_call::pidfd_open);
    oom_score_.raise();
    const pid_t pid = ::fork();
    const int failure_of_fork = errno;
    room.reset();
    if (pid != 0 && ::getpid() != self_) ::_exit(copy_status);  // a handler of pthread_atfork has forked
    if (pid != 0) oom_score_.restore();
    if (pid < 0) return report_failure(owner, message.head.worker, failure_of_fork, wire::failed_call::fork);
    if (pid == 0) {
      SHMPOOL_FAULT_POINT("worker.born");
      const worker::setup_failure failure =
          worker::become_worker(self_, message.settings, owner.with, {socket.get(), control.get()}, null_input_);
      if (early_) throw early_worker{std::move(socket), std::move(control), failure};
      worker::run_worker(std::move(socket), std::move(control), failure);
    }
    SHMPOOL_FAULT_POINT("server.forked");
    const bool leaves_descendants = message.settings.leave_descendants != 0;
    leaves_descendants_ |= leaves_descendants;
    children_.push_back({pid, message.head.worker, &owner, leaves_descendants});
    wire::server_message answer;
    answer.type = wire::server_message_type::spawned;
    answer.worker = message.head.worker;
    answer.pid = pid;
    unique_fd process = move_out_of_the_way(unique_fd(pidfd_open(pid)));
    if (!process) {
      // Without a pidfd the parent could not kill the worker: reap it here, and report a failed start, not an end.
      const int error = errno;
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
      children_.pop_back();
      return report_failure(owner, message.head.worker, error, wire::failed_call::pidfd_open);
    }
    send(owner, answer, std::move(process));
  }

  void reap() {
    signalfd_siginfo ignored[8];
    while (::read(signals_.get(), ignored, sizeof ignored) > 0) {
    }
    bool any = true;
    while (std::exchange(any, false)) {
      for (;;) {
        siginfo_t dead{};
        if (::waitid(P_ALL, 0, &dead, WEXITED | WNOHANG | WNOWAIT) != 0 || dead.si_pid == 0) break;
        reap(dead.si_pid);
        any = true;
      }
      descendants_.look(
          [this](pid_t pid) { return find(pid) != nullptr; });  // children that have died meanwhile may have left more
    }
  }

  /// Reaps a dead child.
  void reap(pid_t pid) {
    child* const found = find(pid);
    if (found && !found->leave_descendants) descendants_.end_session(pid);
    int status = 0;
    rusage usage{};
    if (::wait4(pid, &status, 0, &usage) != pid || !found) return;
    if (found->owner) {
      wire::server_message message;
      message.type = wire::server_message_type::exited;
      message.worker = found->worker;
      message.pid = pid;
      message.status = status;
      message.max_rss_bytes = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
      message.cpu_us = microseconds(usage.ru_utime) + microseconds(usage.ru_stime);
      SHMPOOL_FAULT_POINT("server.reaped");
      send(*found->owner, message, {});
    }
    children_.erase(children_.begin() + (found - children_.data()));
  }

  void report_failure(pool& to, std::uint32_t worker, int error, wire::failed_call call) {
    wire::server_message message;
    message.type = wire::server_message_type::spawn_failed;
    message.worker = worker;
    message.status = error;
    message.call = static_cast<std::uint32_t>(call);
    send(to, message, {});
  }

  void send(pool& to, const wire::server_message& message, unique_fd descriptor) {
    to.outbox.push_back({message, std::move(descriptor)});
    flush(to);
  }

  void flush(pool& to) {
    while (!to.outbox.empty()) {
      const auto& [message, descriptor] = to.outbox.front();
      const int fd = descriptor.get();
      const ssize_t sent = wire::send_with_fds(to.channel.get(), std::as_bytes(std::span(&message, 1)),
                                               std::span(&fd, descriptor ? 1U : 0U), MSG_DONTWAIT);
      if (sent == -EAGAIN) return;
      if (is_shortage(sent) && ++to.failures < most_failures) return;  // again in a moment
      if (is_shortage(sent)) return close(to);                         // the pool notices, and tries another socket
      to.failures = 0;
      to.outbox.pop_front();  // sent; or the pool is gone, which serve() will notice
    }
  }

  /// The parent has closed the pool: kills its workers.
  void close(pool& gone) {
    for (child& each : children_) {
      if (each.owner != &gone) continue;
      ::kill(each.pid, SIGKILL);
      each.owner = nullptr;
    }
    gone.channel.reset();
  }

  const pid_t self_, parent_;
  const bool null_input_;
  const bool early_;
  oom_score oom_score_;
  unsigned poll_failures_ = 0, receive_failures_ = 0;  // in a row
  unique_fd root_, signals_, parent_process_;
  std::vector<std::unique_ptr<pool>> pools_;
  std::vector<child> children_;  // the workers
  descendants descendants_;
  bool leaves_descendants_ = false;      // a worker of some pool leaves its descendants
  std::vector<std::uint64_t> pool_ids_;  // of all pools ever: the server removes their names when the parent has gone
  bool parent_gone_ = false;
};

}  // namespace

void run_loop(unique_fd root, pid_t parent, bool null_input, bool early) {
  server_loop(std::move(root), parent, null_input, early).run();
}

}  // namespace shmpool::server
