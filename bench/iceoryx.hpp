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

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
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

/// The daemon that makes the memory and introduces processes to each other. It removes what it made when it is asked to
/// end after all of them have left. If this process is killed, the kernel asks it, and its next start removes the rest.
///
/// Thread safety: none.
class roudi {
 public:
  /// Waits until it is ready for clients.
  roudi() : owner_(::getpid()) {
    int ends[2];
    if (::pipe(ends) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
    output_ = ends[0];
    pid_ = ::fork();
    if (pid_ == 0) {
      ::setpgid(0, 0);  // or a signal to all of the benchmark ends it before the others
      ::prctl(PR_SET_PDEATHSIG, SIGTERM);
      ::dup2(ends[1], STDOUT_FILENO);
      ::dup2(ends[1], STDERR_FILENO);
      ::close(ends[0]);
      ::close(ends[1]);
      ::execlp("iox-roudi", "iox-roudi", "--monitoring-mode", "off", static_cast<char*>(nullptr));
      ::_exit(127);
    }
    ::close(ends[1]);
    if (pid_ > 0 && is_ready()) return;
    end();
    throw cannot_run("iox-roudi did not start");
  }
  roudi(const roudi&) = delete;
  roudi& operator=(const roudi&) = delete;
  ~roudi() { end(); }

 private:
  // False if it ends before it says so.
  bool is_ready() const {
    std::string said;
    for (char piece[256]; said.find("RouDi is ready for clients") == std::string::npos;) {
      const ssize_t n = ::read(output_, piece, sizeof piece);
      if (n == 0 || (n < 0 && errno != EINTR)) return false;
      if (n > 0) said.append(piece, static_cast<std::size_t>(n));
    }
    return true;
  }
  void end() {
    if (::getpid() != owner_) return;  // in a process that was forked meanwhile
    if (pid_ > 0) {
      ::kill(pid_, SIGTERM);
      while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
      }
    }
    ::close(output_);
  }

  const pid_t owner_;
  pid_t pid_ = -1;
  int output_ = -1;
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
    end_.emplace("shmpool_bench", "there", "back", poll);
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
    iceoryx_end end("shmpool_bench_echo", "back", "there", poll);
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
