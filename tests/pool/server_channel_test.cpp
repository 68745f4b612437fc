// A pool's socket to its fork server, with the test as the server: no process, no fork.
#include "pool/server_channel.hpp"

#include "wire/fd_passing.hpp"

#include <gtest/gtest.h>

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace shmpool::pool {
namespace {

using namespace std::chrono_literals;
using kind = server_channel::report::kind;

/// What the test decides about servers, and the end of the socket to the last one.
struct fake_servers {
  unique_fd end;
  unsigned connects = 0, works = 0;
  unsigned failures = 0;  // of so many further connects
  bool may_try_again = true;
  bool asked_again = false;
  int buffer_bytes = 0;  // of the socket; 0: the system's

  unique_fd connect(bool again) {
    ++connects;
    asked_again = again;
    if (failures != 0) {
      --failures;
      throw std::runtime_error("no server today");
    }
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) throw std::bad_alloc();
    if (buffer_bytes != 0) ::setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes);
    end = unique_fd(ends[1]);
    return unique_fd(ends[0]);
  }
};

class fake_source final : public server_channel::source {
 public:
  explicit fake_source(fake_servers& all) : all_(all) {}
  unique_fd connect(bool again) override { return all_.connect(again); }
  bool may_try_again() override { return all_.may_try_again; }
  std::string how_it_ended() override { return "killed by a test"; }
  void works() noexcept override { ++all_.works; }

 private:
  fake_servers& all_;
};

class server_channels : public ::testing::Test {
 protected:
  using time_point = server_channel::time_point;

  /// As the engine would.
  void spawn(std::uint32_t worker) {
    int pipe_ends[2];
    ASSERT_EQ(::pipe(pipe_ends), 0);
    channel().spawn(worker, settings, unique_fd(pipe_ends[0]), unique_fd(pipe_ends[1]), now);
  }

  server_channel& channel() {
    if (!channel_) channel_.emplace(*queue, std::make_unique<fake_source>(servers));
    return *channel_;
  }

  /// Lets the queue report what has happened.
  void turn() {
    ASSERT_FALSE(queue->submit());
    pollfd ready{queue->descriptor(), POLLIN, 0};
    ::poll(&ready, 1, 0);
    while (const loop::operation* op = queue->reap()) {
      ASSERT_TRUE(channel().owns(*op));
      channel().reaped(*op, now);
    }
  }

  struct heard {
    wire::spawn_message message{};
    ssize_t bytes = 0;
    std::size_t descriptors = 0;
  };
  /// What the server is told next; nothing if there is nothing.
  std::optional<heard> server_hears() {
    heard next;
    std::vector<unique_fd> fds;
    next.bytes = wire::receive_with_fds(servers.end.get(), std::as_writable_bytes(std::span(&next.message, 1)), fds,
                                        MSG_DONTWAIT);
    if (next.bytes <= 0) return std::nullopt;
    next.descriptors = fds.size();
    return next;
  }
  bool server_is_asked_for(std::uint32_t worker) {
    const auto next = server_hears();
    return next && next->message.head.type == wire::server_message_type::spawn && next->message.head.worker == worker &&
           next->bytes == sizeof next->message && next->descriptors == 2;
  }
  bool server_is_asked_to_kill(std::uint32_t worker) {
    const auto next = server_hears();
    return next && next->message.head.type == wire::server_message_type::kill && next->message.head.worker == worker;
  }

  void server_says(wire::server_message_type type, std::uint32_t worker, int status = 0, int descriptor = -1) {
    wire::server_message message;
    message.type = type;
    message.worker = worker;
    message.pid = 4711;
    message.status = status;
    const auto sent = wire::send_with_fds(servers.end.get(), std::as_bytes(std::span(&message, 1)),
                                          std::span(&descriptor, descriptor >= 0 ? 1U : 0U), MSG_DONTWAIT);
    ASSERT_EQ(sent, static_cast<ssize_t>(sizeof message));
  }

  kind next_kind() {
    last = channel().next_report();
    EXPECT_TRUE(last) << "nothing is reported";
    return last ? last->what : kind::stuck;
  }
  void expect_silence() { EXPECT_FALSE(channel().next_report()); }

  fake_servers servers;
  std::unique_ptr<loop::completion_queue> queue = loop::make_completion_queue(backend::epoll);
  wire::worker_settings settings{};
  time_point now{1h};
  std::optional<server_channel::report> last;

 private:
  std::optional<server_channel> channel_;
};

TEST_F(server_channels, asks_for_a_worker_with_its_descriptors) {
  settings.nice = 7;
  spawn(3);
  EXPECT_EQ(next_kind(), kind::told);
  EXPECT_EQ(last->worker, 3U);
  const auto asked = server_hears();
  ASSERT_TRUE(asked);
  EXPECT_EQ(asked->message.head.worker, 3U);
  EXPECT_EQ(asked->message.settings.nice, 7);
  EXPECT_EQ(asked->descriptors, 2U);
  EXPECT_FALSE(servers.asked_again);
}

TEST_F(server_channels, reports_what_the_server_says) {
  spawn(3);
  EXPECT_EQ(next_kind(), kind::told);
  server_says(wire::server_message_type::spawned, 3, 0, STDERR_FILENO);
  server_says(wire::server_message_type::exited, 3, 9);
  server_says(wire::server_message_type::spawn_failed, 4, EAGAIN);
  turn();
  EXPECT_EQ(next_kind(), kind::spawned);
  EXPECT_EQ(last->worker, 3U);
  EXPECT_EQ(last->message.pid, 4711);
  EXPECT_TRUE(last->process);
  EXPECT_EQ(servers.works, 1U);
  EXPECT_EQ(next_kind(), kind::exited);
  EXPECT_EQ(last->message.status, 9);
  EXPECT_EQ(next_kind(), kind::spawn_failed);
  EXPECT_EQ(last->why, std::string("fork: ") + std::strerror(EAGAIN));
  expect_silence();
}

TEST_F(server_channels, hears_more_after_it_has_heard) {
  spawn(1);
  EXPECT_EQ(next_kind(), kind::told);
  for (int i = 0; i != 3; ++i) {
    server_says(wire::server_message_type::exited, 1, i);
    turn();
    EXPECT_EQ(next_kind(), kind::exited);
    EXPECT_EQ(last->message.status, i);
  }
}

// The socket is full: what did not go waits, in order, until the server has read.
TEST_F(server_channels, keeps_what_the_socket_does_not_take) {
  servers.buffer_bytes = 4096;
  constexpr std::uint32_t workers = 64;
  for (std::uint32_t i = 0; i != workers; ++i) spawn(i);
  channel().kill(0, now);
  std::uint32_t told = 0, read = 0;
  const auto count_told = [&] {
    while (const auto report = channel().next_report()) {
      EXPECT_EQ(report->what, kind::told);
      EXPECT_EQ(report->worker, told);
      ++told;
    }
  };
  count_told();
  EXPECT_LT(told, workers) << "the socket was to be too small";
  bool killed = false;
  for (int i = 0; i != 1000 && !killed; ++i) {
    while (const auto next = server_hears()) {
      killed = next->message.head.type == wire::server_message_type::kill;
      if (!killed) {
        EXPECT_EQ(next->message.head.worker, read++);
      }
    }
    turn();
    count_told();
  }
  EXPECT_TRUE(killed);
  EXPECT_EQ(read, workers);
  EXPECT_EQ(told, workers);
}

TEST_F(server_channels, does_not_ask_for_whom_it_is_to_forget) {
  servers.end.reset();
  (void)channel();
  servers.end.reset();  // dead, and nobody has noticed yet
  spawn(1);
  spawn(2);
  channel().forget(1);
  turn();
  EXPECT_EQ(next_kind(), kind::lost);
  channel().reconnect(now, true);
  EXPECT_TRUE(servers.asked_again);
  EXPECT_EQ(next_kind(), kind::told);
  EXPECT_EQ(last->worker, 2U);
  EXPECT_TRUE(server_is_asked_for(2));
}

// Whom a dead server was to kill dies with it: the next one never knew it.
TEST_F(server_channels, asks_the_next_server_for_workers_only) {
  (void)channel();
  servers.end.reset();
  spawn(1);
  channel().kill(7, now);
  turn();
  EXPECT_EQ(next_kind(), kind::lost);
  channel().reconnect(now, true);
  EXPECT_TRUE(server_is_asked_for(1));
  EXPECT_FALSE(server_hears());
}

TEST_F(server_channels, reads_to_the_end_what_a_dead_server_has_said) {
  spawn(1);
  EXPECT_EQ(next_kind(), kind::told);
  server_says(wire::server_message_type::spawned, 1, 0, STDERR_FILENO);
  servers.end.reset();
  turn();
  EXPECT_EQ(next_kind(), kind::spawned);
  EXPECT_EQ(next_kind(), kind::lost);
  EXPECT_FALSE(channel().is_open());
}

TEST_F(server_channels, tries_again_later_and_later) {
  (void)channel();
  servers.end.reset();
  turn();
  EXPECT_EQ(next_kind(), kind::lost);
  servers.failures = 3;
  channel().reconnect(now, true);
  auto pause = 0ns;
  for (int i = 0; i != 3; ++i) {
    expect_silence();
    const auto due = channel().due();
    ASSERT_NE(due, time_point::max());
    EXPECT_GT(due - now, pause);
    pause = due - now;
    channel().tick(due - 1ns, true);
    EXPECT_EQ(channel().due(), due);
    now = due;
    channel().tick(now, true);
  }
  EXPECT_EQ(channel().due(), time_point::max());
  EXPECT_TRUE(channel().is_open());
  EXPECT_EQ(servers.connects, 5U);
}

TEST_F(server_channels, gives_up_in_the_end) {
  (void)channel();
  servers.end.reset();
  spawn(1);
  turn();
  EXPECT_EQ(next_kind(), kind::lost);
  servers.failures = 1000;
  channel().reconnect(now, true);
  while (channel().due() != time_point::max()) channel().tick(now = channel().due(), true);
  EXPECT_EQ(servers.connects, 1 + server_channel::most_attempts);
  EXPECT_EQ(next_kind(), kind::gone);
  EXPECT_EQ(last->why, "no server today");
}

// One that dies at once, each time, is given up, too; what counts is that none has said anything.
TEST_F(server_channels, gives_up_servers_that_die_before_they_say_anything) {
  (void)channel();
  for (unsigned i = 0; i != server_channel::most_attempts; ++i) {
    servers.end.reset();
    turn();
    ASSERT_EQ(next_kind(), kind::lost);
    channel().reconnect(now, true);
  }
  servers.end.reset();
  turn();
  ASSERT_EQ(next_kind(), kind::lost);
  channel().reconnect(now, true);
  EXPECT_EQ(next_kind(), kind::gone);
  EXPECT_EQ(last->why, "killed by a test");
}

TEST_F(server_channels, gives_up_at_once_where_trying_again_is_of_no_use) {
  (void)channel();
  servers.end.reset();
  turn();
  EXPECT_EQ(next_kind(), kind::lost);
  servers.failures = 1;
  servers.may_try_again = false;
  channel().reconnect(now, true);
  EXPECT_EQ(next_kind(), kind::gone);
  EXPECT_EQ(last->why, "no server today");
}

TEST_F(server_channels, needs_no_other_server_where_none_is_wanted) {
  (void)channel();
  servers.end.reset();
  turn();
  EXPECT_EQ(next_kind(), kind::lost);
  channel().reconnect(now, false);
  EXPECT_EQ(next_kind(), kind::gone);
  EXPECT_EQ(last->why, "");
  EXPECT_EQ(servers.connects, 1U);
}

// The descriptor of a new worker cannot be taken in: the engine hears of the worker all the same, as it has to go.
TEST_F(server_channels, reports_a_worker_that_it_has_no_descriptor_for) {
  spawn(1);
  EXPECT_EQ(next_kind(), kind::told);
  server_says(wire::server_message_type::spawned, 1, 0, STDERR_FILENO);
  server_says(wire::server_message_type::exited, 1, 9);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const unique_fd lowest(::dup(STDERR_FILENO));
  const rlimit none{static_cast<rlim_t>(lowest.get()), before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  turn();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(next_kind(), kind::spawned);
  EXPECT_EQ(last->worker, 1U);
  EXPECT_FALSE(last->process);
  EXPECT_EQ(servers.works, 0U);
  EXPECT_EQ(next_kind(), kind::exited);
}

TEST_F(server_channels, says_nothing_more_when_the_pool_is_at_its_end) {
  (void)channel();
  channel().stop_watching();
  servers.end.reset();
  turn();
  turn();
  expect_silence();
}

TEST_F(server_channels, waits_for_the_last_words_after_it_has_half_closed) {
  spawn(1);
  EXPECT_EQ(next_kind(), kind::told);
  channel().half_close();
  EXPECT_TRUE(server_is_asked_for(1));
  std::byte nothing[1];
  EXPECT_EQ(::recv(servers.end.get(), nothing, sizeof nothing, 0), 0) << "the server sees the end";
  EXPECT_FALSE(channel().wait(monotonic_clock::now())) << "nothing has come";
  server_says(wire::server_message_type::spawned, 1, 0, STDERR_FILENO);
  EXPECT_TRUE(channel().wait(monotonic_clock::now() + 10s));
  EXPECT_EQ(next_kind(), kind::spawned);
  servers.end.reset();
  EXPECT_FALSE(channel().wait(monotonic_clock::now() + 10s));
}

TEST_F(server_channels, kills_by_a_message_of_its_own) {
  (void)channel();
  channel().kill(9, now);
  EXPECT_TRUE(server_is_asked_to_kill(9));
  expect_silence();
}

}  // namespace
}  // namespace shmpool::pool
