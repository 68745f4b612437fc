// Messages to another process and back through iceoryx: two topics, which lie in shared memory. Its daemon, RouDi, is
// started for this and ended with the program.
#pragma once

#include "absent.hpp"

#if !defined(BENCH_HAS_ICEORYX)
namespace bench {
using iceoryx = absent;
}  // namespace bench
#else

#include "child_process.hpp"

#include <iceoryx_hoofs/log/logmanager.hpp>
#include <iceoryx_posh/popo/untyped_publisher.hpp>
#include <iceoryx_posh/popo/untyped_subscriber.hpp>
#include <iceoryx_posh/popo/wait_set.hpp>
#include <iceoryx_posh/runtime/posh_runtime.hpp>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace bench {

/// The daemon that makes the memory and introduces processes to each other. A process between this one and the daemon
/// ends it, and sees to it that nothing is left, also when this process is killed.
///
/// Thread safety: none.
class roudi {
 public:
  /// By these names its clients join it.
  static constexpr const char* clients[] = {"shmpool_bench", "shmpool_bench_echo"};

  /// Waits until it is ready for clients.
  roudi() : owner_(::getpid()) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
      throw std::system_error(errno, std::generic_category(), "socketpair");
    keeper_ = ::fork();
    if (keeper_ == 0) {
      ::setpgid(0, 0);  // a signal to all of the benchmark is not for it
      ::close(ends[0]);
      keep(ends[1]);
      ::_exit(0);
    }
    ::close(ends[1]);
    keeper_socket_ = ends[0];
    if (keeper_ > 0 && hears(keeper_socket_)) return;
    end();
    throw cannot_run("iox-roudi did not start");
  }
  roudi(const roudi&) = delete;
  roudi& operator=(const roudi&) = delete;
  ~roudi() { end(); }

 private:
  // Says that the daemon is ready, and hears from this process when all others have left it. If nobody says so, they
  // were killed, and the daemon may wait for them for ever: then it is killed, too, and another one removes what it
  // made.
  static void keep(int socket) {
    const pid_t daemon = start();
    if (daemon < 0) return;
    say(socket);
    if (hears(socket)) return stop(daemon, SIGTERM);
    stop(daemon, SIGKILL);
    stop(start(), SIGTERM);
    for (const char* const name : clients) {
      ::unlink((std::string("/tmp/") + name).c_str());
      ::unlink((std::string("/tmp/") + name + ".lock").c_str());
    }
  }

  static void say(int socket) { ::send(socket, "", 1, MSG_NOSIGNAL); }
  // False if the other end is closed.
  static bool hears(int socket) {
    char byte = 0;
    ssize_t n = 0;
    do {
      n = ::recv(socket, &byte, 1, 0);
    } while (n < 0 && errno == EINTR);
    return n == 1;
  }

  // Waits until it is ready; -1 if it ends before.
  static pid_t start() {
    int output[2];
    if (::pipe2(output, O_CLOEXEC) != 0) return -1;
    const pid_t daemon = ::fork();
    if (daemon == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGTERM);
      ::dup2(output[1], STDOUT_FILENO);
      ::dup2(output[1], STDERR_FILENO);
      ::execlp("iox-roudi", "iox-roudi", "--monitoring-mode", "off", static_cast<char*>(nullptr));
      ::_exit(127);
    }
    ::close(output[1]);
    std::string said;
    char piece[256];
    while (said.find("RouDi is ready for clients") == std::string::npos) {
      const ssize_t n = ::read(output[0], piece, sizeof piece);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        ::close(output[0]);
        stop(daemon, SIGKILL);
        return -1;
      }
      said.append(piece, static_cast<std::size_t>(n));
    }
    return daemon;  // what it prints later stays in the pipe
  }

  static void stop(pid_t daemon, int signal) {
    if (daemon < 0) return;
    ::kill(daemon, signal);
    wait_for(daemon);
  }
  static void wait_for(pid_t process) {
    while (::waitpid(process, nullptr, 0) < 0 && errno == EINTR) {
    }
  }

  void end() const {
    if (::getpid() != owner_) return;  // in a process that was forked meanwhile
    say(keeper_socket_);
    ::close(keeper_socket_);
    if (keeper_ > 0) wait_for(keeper_);
  }

  const pid_t owner_;
  pid_t keeper_ = -1;
  int keeper_socket_ = -1;
};

/// A publisher of one topic and a subscriber of another.
///
/// Thread safety: none.
class iceoryx_end {
 public:
  /// Joins the daemon under its name, once in a process. With `poll` it does not sleep while it waits.
  iceoryx_end(const char* name, const char* publishes, const char* subscribes, bool poll)
      : publisher_(join(name, publishes)), subscriber_(topic(subscribes)) {
    if (poll) return;
    waits_.emplace();
    waits_->attachState(subscriber_, iox::popo::SubscriberState::HAS_DATA).or_else([](auto) {
      throw std::runtime_error("iceoryx: attachState");
    });
  }

  /// Polls, since there is nothing to wait for.
  void wait_until_connected() const {
    while (!publisher_.hasSubscribers() || subscriber_.getSubscriptionState() != iox::SubscribeState::SUBSCRIBED)
      ::sched_yield();
  }

  bool send(std::span<const std::byte> message) {
    auto memory = publisher_.loan(static_cast<std::uint32_t>(message.size()));
    if (memory.has_error()) return false;
    std::memcpy(memory.value(), message.data(), message.size());
    publisher_.publish(memory.value());
    return true;
  }

  /// The size of the next message; 0 if there is none.
  std::size_t receive(std::span<std::byte> into, bool wait) {
    for (;;) {
      if (auto message = subscriber_.take(); !message.has_error()) {
        const std::size_t size = iox::mepoo::ChunkHeader::fromUserPayload(message.value())->userPayloadSize();
        std::memcpy(into.data(), message.value(), std::min(size, into.size()));
        subscriber_.release(message.value());
        return size;
      }
      if (!wait) return 0;
      if (waits_) waits_->wait();
    }
  }

 private:
  static iox::capro::ServiceDescription topic(const char* name) {
    return {"shmpool_bench", "echo", iox::capro::IdString_t(iox::cxx::TruncateToCapacity, name)};
  }
  static iox::capro::ServiceDescription join(const char* name, const char* publishes) {
    iox::runtime::PoshRuntime::initRuntime(iox::RuntimeName_t(iox::cxx::TruncateToCapacity, name));
    return topic(publishes);
  }

  iox::popo::UntypedPublisher publisher_;
  iox::popo::UntypedSubscriber subscriber_;
  std::optional<iox::popo::WaitSet<>> waits_;
};

/// Thread safety: none.
class iceoryx {
 public:
  /// A queue holds no more, and drops what does not fit.
  static constexpr std::size_t most_outstanding = iox::MAX_SUBSCRIBER_QUEUE_CAPACITY;

  /// With `poll` neither side sleeps while it waits, and each has a CPU of its own; otherwise both sleep in a WaitSet.
  iceoryx(bool poll, std::size_t most) {
    static bool joined = false;
    if (joined) throw cannot_run("a program can join RouDi once: filter for one benchmark with iceoryx");
    joined = true;
    // Before anything of iceoryx is made in this process, so that it is destroyed after all of that.
    static const roudi daemon;
    iox::log::LogManager::GetLogManager().SetDefaultLogLevel(iox::log::LogLevel::kOff);
    if (poll) pinned_.emplace();
    std::fflush(nullptr);  // the other process ends with exit(), so that it leaves the daemon
    child_.emplace([&] {
      if (pinned_) pinned_->to(1);
      echo(poll, most);
      std::exit(0);
    });
    end_.emplace(roudi::clients[0], "there", "back", poll);
    end_->wait_until_connected();
  }
  iceoryx(const iceoryx&) = delete;
  iceoryx& operator=(const iceoryx&) = delete;
  ~iceoryx() {
    if (send({})) child_->wait();
  }

  bool send(std::span<const std::byte> message) { return end_->send(message); }
  std::size_t receive(std::span<std::byte> into, bool wait) { return end_->receive(into, wait); }
  bool round_trip(std::span<const std::byte> message, std::span<std::byte> received) {
    return send(message) && receive(received, true) == received.size();
  }

 private:
  // Until an empty message comes.
  static void echo(bool poll, std::size_t most) {
    iceoryx_end end(roudi::clients[1], "back", "there", poll);
    std::vector<std::byte> message(most);
    for (std::size_t n = end.receive(message, true); n != 0; n = end.receive(message, true))
      end.send(std::span(message).first(n));
  }

  std::optional<pinned> pinned_;
  std::optional<child_process> child_;
  std::optional<iceoryx_end> end_;
};

}  // namespace bench
#endif
