// The promises of every completion queue, on both backends: what receives, sends and waits report, and when the
// descriptor is readable. Cancellation, threads and processes have files of their own.

#include "loop/completion_queue.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <deque>
#include <thread>

#include "loop/queue_fixture.hpp"

namespace shmpool::loop {
namespace {

using completion_queue_test = on_each_backend;
SHMPOOL_ON_EACH_BACKEND(completion_queue_test);

TEST_P(completion_queue_test, carries_the_name_of_the_backend_that_was_asked_for) {
  EXPECT_STREQ(queue->name(), GetParam() == backend::io_uring ? "io_uring" : "epoll");
}

TEST_P(completion_queue_test, does_not_leak_its_descriptor_into_executed_programs) {
  EXPECT_NE(::fcntl(queue->descriptor(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_P(completion_queue_test, receive_gets_the_bytes_that_are_there) {
  socket_pair sockets;
  receive_operation receive{sockets.ours()};
  queue->start(receive);
  EXPECT_TRUE(receive.pending);
  ASSERT_FALSE(queue->submit());
  EXPECT_EQ(queue->reap(), nullptr);
  sockets.write("hello");
  ASSERT_EQ(next_ended(*queue), &receive);
  EXPECT_EQ(receive.text(), "hello");
  EXPECT_FALSE(receive.pending);
}

TEST_P(completion_queue_test, receive_of_bytes_that_came_before_it_ends_at_once) {
  socket_pair sockets;
  sockets.write("early");
  receive_operation receive{sockets.ours()};
  queue->start(receive);
  ASSERT_FALSE(queue->submit());
  EXPECT_TRUE(is_readable(queue->descriptor()));
  ASSERT_EQ(queue->reap(), &receive);
  EXPECT_EQ(receive.text(), "early");
}

TEST_P(completion_queue_test, receive_reports_the_end_of_the_stream_as_zero) {
  socket_pair sockets;
  receive_operation receive{sockets.ours()};
  queue->start(receive);
  ASSERT_FALSE(queue->submit());
  sockets.close_theirs();
  ASSERT_EQ(next_ended(*queue), &receive);
  EXPECT_EQ(receive.result, 0);
}

TEST_P(completion_queue_test, receive_waits_on_descriptors_in_non_blocking_mode_too) {
  socket_pair sockets{SOCK_NONBLOCK};
  receive_operation receive{sockets.ours()};
  queue->start(receive);
  ASSERT_FALSE(queue->submit());
  EXPECT_EQ(queue->reap(), nullptr);
  EXPECT_TRUE(receive.pending);
  sockets.write("late");
  ASSERT_EQ(next_ended(*queue), &receive);
  EXPECT_EQ(receive.text(), "late");
}

TEST_P(completion_queue_test, one_operation_serves_many_times) {
  socket_pair sockets;
  receive_operation receive{sockets.ours()};
  for (int i = 0; i < 100; ++i) {
    queue->start(receive);
    ASSERT_FALSE(queue->submit());
    sockets.write(std::to_string(i));
    ASSERT_EQ(next_ended(*queue), &receive);
    ASSERT_EQ(receive.text(), std::to_string(i));
  }
}

void expect_large_send_arrives(completion_queue& queue, int flags) {
  socket_pair sockets{flags};
  const std::string text = pattern(std::size_t{4} << 20);
  send_operation send{sockets.ours(), text};
  std::string arrived;
  // A reader that takes small, odd bites, so that the socket is full most of the time.
  std::jthread reader{[&] {
    std::array<char, 4099> bite{};
    while (arrived.size() < text.size() && is_readable(sockets.theirs(), 20'000)) {
      const ssize_t count = ::recv(sockets.theirs(), bite.data(), bite.size(), 0);
      if (count <= 0) break;
      arrived.append(bite.data(), static_cast<std::size_t>(count));
    }
  }};
  queue.start(send);
  ASSERT_FALSE(queue.submit());
  ASSERT_EQ(next_ended(queue), &send);
  reader.join();
  EXPECT_EQ(send.result, static_cast<int>(text.size()));
  EXPECT_EQ(send.done, text.size());
  EXPECT_TRUE(arrived == text);
}

TEST_P(completion_queue_test, send_of_4_mib_to_a_slow_reader_arrives_whole_and_in_order) {
  expect_large_send_arrives(*queue, 0);
}

TEST_P(completion_queue_test, send_of_4_mib_through_a_non_blocking_descriptor_arrives_whole_and_in_order) {
  expect_large_send_arrives(*queue, SOCK_NONBLOCK);
}

TEST_P(completion_queue_test, send_of_nothing_succeeds) {
  socket_pair sockets;
  send_operation send{sockets.ours(), ""};
  queue->start(send);
  ASSERT_FALSE(queue->submit());
  ASSERT_EQ(next_ended(*queue), &send);
  EXPECT_EQ(send.result, 0);
}

TEST_P(completion_queue_test, send_to_a_closed_peer_reports_epipe_and_raises_no_signal) {
  socket_pair sockets;
  sockets.close_theirs();
  send_operation send{sockets.ours(), "x"};
  queue->start(send);
  ASSERT_FALSE(queue->submit());
  ASSERT_EQ(next_ended(*queue), &send);
  EXPECT_EQ(send.result, -EPIPE);
  EXPECT_EQ(send.done, 0U);
}

TEST_P(completion_queue_test, send_that_waits_when_the_peer_closes_reports_an_error_and_what_it_wrote) {
  socket_pair sockets;
  send_operation send{sockets.ours(), pattern(std::size_t{4} << 20)};
  queue->start(send);
  ASSERT_FALSE(queue->submit());
  EXPECT_EQ(queue->reap(), nullptr);
  std::array<char, 1000> bite{};
  ASSERT_EQ(::recv(sockets.theirs(), bite.data(), bite.size(), MSG_WAITALL), 1000);
  sockets.close_theirs();
  ASSERT_EQ(next_ended(*queue), &send);
  EXPECT_TRUE(send.result == -EPIPE || send.result == -ECONNRESET) << send.result;
  EXPECT_GE(send.done, 1000U);
  EXPECT_LT(send.done, send.size);
}

TEST_P(completion_queue_test, receive_reports_econnreset_when_the_peer_closed_with_bytes_unread) {
  socket_pair sockets;
  receive_operation receive{sockets.ours()};
  ASSERT_EQ(::send(sockets.ours(), "x", 1, 0), 1);
  queue->start(receive);
  ASSERT_FALSE(queue->submit());
  sockets.close_theirs();
  ASSERT_EQ(next_ended(*queue), &receive);
  EXPECT_EQ(receive.result, -ECONNRESET);
}

TEST_P(completion_queue_test, receive_into_a_buffer_that_is_not_there_reports_efault) {
  socket_pair sockets;
  sockets.write("x");
  operation receive{.what = operation::kind::receive, .fd = sockets.ours(), .data = nullptr, .size = 1};
  queue->start(receive);
  ASSERT_FALSE(queue->submit());
  ASSERT_EQ(next_ended(*queue), &receive);
  EXPECT_EQ(receive.result, -EFAULT);
}

TEST_P(completion_queue_test, operations_on_a_bad_descriptor_report_ebadf) {
  receive_operation receive{-1};
  send_operation send{-1, "x"};
  poll_operation poll{operation::kind::poll_in, -1};
  for (operation* op :
       {static_cast<operation*>(&receive), static_cast<operation*>(&send), static_cast<operation*>(&poll)}) {
    queue->start(*op);
    ASSERT_FALSE(queue->submit());
    ASSERT_EQ(next_ended(*queue), op);
    EXPECT_EQ(op->result, -EBADF);
  }
}

TEST_P(completion_queue_test, a_send_that_is_too_large_for_its_result_is_refused) {
  socket_pair sockets;
  std::byte byte{};
  operation send{.what = operation::kind::send, .fd = sockets.ours(), .data = &byte, .size = std::size_t{1} << 31};
  queue->start(send);
  ASSERT_FALSE(queue->submit());
  EXPECT_TRUE(is_readable(queue->descriptor()));
  ASSERT_EQ(next_ended(*queue), &send);
  EXPECT_EQ(send.result, -EINVAL);
  EXPECT_EQ(queue->reap(), nullptr);
  EXPECT_FALSE(is_readable(queue->descriptor()));
}

TEST_P(completion_queue_test, poll_in_on_a_pidfd_fires_when_the_child_exits) {
  socket_pair leash;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    leash.close_ours();
    char byte = 0;
    ::_exit(::recv(leash.theirs(), &byte, 1, 0) == 0 ? 0 : 1);  // until the parent lets go
  }
  leash.close_theirs();
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));
  ASSERT_GE(pidfd, 0);
  poll_operation death{operation::kind::poll_in, pidfd};
  queue->start(death);
  EXPECT_FALSE(queue->submit());
  EXPECT_EQ(queue->reap(), nullptr);
  leash.close_ours();
  EXPECT_EQ(next_ended(*queue), &death);
  EXPECT_GT(death.result, 0);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ::close(pidfd);
}

TEST_P(completion_queue_test, poll_out_fires_when_a_full_socket_drains) {
  socket_pair sockets;
  const std::string block(4096, 'x');
  std::size_t filled = 0;
  for (ssize_t n = 0; (n = ::send(sockets.ours(), block.data(), block.size(), MSG_DONTWAIT)) > 0;) {
    filled += static_cast<std::size_t>(n);
  }
  poll_operation writable{operation::kind::poll_out, sockets.ours()};
  queue->start(writable);
  ASSERT_FALSE(queue->submit());
  EXPECT_EQ(queue->reap(), nullptr);
  std::string taken(filled, '\0');
  ASSERT_EQ(::recv(sockets.theirs(), taken.data(), filled, MSG_WAITALL), static_cast<ssize_t>(filled));
  ASSERT_EQ(next_ended(*queue), &writable);
  EXPECT_GT(writable.result, 0);
}

TEST_P(completion_queue_test, poll_in_fires_when_the_peer_hangs_up) {
  socket_pair sockets;
  poll_operation poll{operation::kind::poll_in, sockets.ours()};
  queue->start(poll);
  ASSERT_FALSE(queue->submit());
  sockets.close_theirs();
  ASSERT_EQ(next_ended(*queue), &poll);
  EXPECT_GT(poll.result, 0);
}

TEST_P(completion_queue_test, a_regular_file_is_always_ready_and_is_no_socket) {
  const int file = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(file, 0);
  poll_operation poll{operation::kind::poll_in, file};
  queue->start(poll);
  ASSERT_FALSE(queue->submit());
  ASSERT_EQ(next_ended(*queue), &poll);
  EXPECT_GE(poll.result, 0);
  receive_operation receive{file};
  queue->start(receive);
  ASSERT_FALSE(queue->submit());
  ASSERT_EQ(next_ended(*queue), &receive);
  EXPECT_EQ(receive.result, -ENOTSOCK);
  ::close(file);
}

TEST_P(completion_queue_test, descriptor_is_readable_exactly_while_there_is_something_to_reap) {
  socket_pair sockets;
  receive_operation receive{sockets.ours()};
  EXPECT_FALSE(is_readable(queue->descriptor()));
  for (int i = 0; i < 3; ++i) {
    queue->start(receive);
    ASSERT_FALSE(queue->submit());
    EXPECT_EQ(queue->reap(), nullptr);
    EXPECT_FALSE(is_readable(queue->descriptor()));
    sockets.write("x");
    EXPECT_TRUE(is_readable(queue->descriptor(), 20'000));
    ASSERT_EQ(next_ended(*queue), &receive);
    EXPECT_EQ(queue->reap(), nullptr);
    EXPECT_FALSE(is_readable(queue->descriptor()));
  }
}

TEST_P(completion_queue_test, descriptor_is_readable_after_a_send_that_ended_at_once) {
  socket_pair sockets;
  send_operation send{sockets.ours(), "now"};
  queue->start(send);
  ASSERT_FALSE(queue->submit());
  EXPECT_TRUE(is_readable(queue->descriptor()));
  ASSERT_EQ(queue->reap(), &send);
  EXPECT_EQ(queue->reap(), nullptr);
  EXPECT_FALSE(is_readable(queue->descriptor()));
}

TEST_P(completion_queue_test, descriptor_stays_readable_for_one_who_reaps_one_at_a_time) {
  std::array<socket_pair, 5> sockets;
  std::deque<receive_operation> receives;
  for (const socket_pair& pair : sockets) {
    receives.emplace_back(pair.ours());
    queue->start(receives.back());
  }
  ASSERT_FALSE(queue->submit());
  for (const socket_pair& pair : sockets) pair.write("x");
  for (std::size_t reaped = 0; reaped < receives.size();) {
    ASSERT_TRUE(is_readable(queue->descriptor(), 20'000)) << reaped;
    if (queue->reap() != nullptr) ++reaped;
  }
  EXPECT_EQ(queue->reap(), nullptr);
  EXPECT_FALSE(is_readable(queue->descriptor()));
}

TEST_P(completion_queue_test, send_and_receive_are_pending_together_on_one_descriptor) {
  socket_pair sockets;
  const std::string text = pattern(std::size_t{1} << 20);
  send_operation send{sockets.ours(), text};
  receive_operation receive{sockets.ours()};
  queue->start(receive);
  queue->start(send);
  ASSERT_FALSE(queue->submit());
  EXPECT_EQ(queue->reap(), nullptr);
  EXPECT_TRUE(send.pending);
  sockets.write("first");
  ASSERT_EQ(next_ended(*queue), &receive);
  EXPECT_EQ(receive.text(), "first");
  EXPECT_TRUE(send.pending);
  queue->start(receive);
  ASSERT_FALSE(queue->submit());
  std::string arrived(text.size(), '\0');
  std::jthread reader{[&] { ::recv(sockets.theirs(), arrived.data(), arrived.size(), MSG_WAITALL); }};
  ASSERT_EQ(next_ended(*queue), &send);
  reader.join();
  EXPECT_TRUE(arrived == text);
  EXPECT_TRUE(receive.pending);
  sockets.write("second");
  ASSERT_EQ(next_ended(*queue), &receive);
  EXPECT_EQ(receive.text(), "second");
}

// More than the rings hold: 20,000 receives against 16,384 completion and 256 submission entries.
TEST_P(completion_queue_test, twenty_thousand_operations_at_once_over_few_sockets_all_end) {
  std::array<socket_pair, 4> sockets;
  std::deque<receive_operation> receives;
  for (std::size_t i = 0; i < 20'000; ++i) {
    receives.emplace_back(sockets[i % sockets.size()].ours(), 1);
    queue->start(receives.back());
  }
  ASSERT_FALSE(queue->submit());
  std::jthread writer{[&] {
    for (std::size_t i = 0; i < receives.size(); ++i) ::send(sockets[i % sockets.size()].theirs(), "x", 1, 0);
  }};
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < receives.size(); ++i) {
    const operation* op = next_ended(*queue);
    ASSERT_EQ(op->result, 1);
    bytes += static_cast<std::size_t>(op->result);
  }
  EXPECT_EQ(bytes, receives.size());
  EXPECT_EQ(queue->reap(), nullptr);
}

TEST_P(completion_queue_test, a_descriptor_number_can_be_used_again_after_close) {
  for (int i = 0; i < 50; ++i) {
    socket_pair sockets;
    // Another owner of the same socket, as a forked child would be: the close below does not end it.
    const int kept = ::dup(sockets.ours());
    receive_operation receive{sockets.ours()};
    queue->start(receive);
    ASSERT_FALSE(queue->submit());
    if (i % 2 == 0) {
      sockets.write("x");
    } else {
      queue->cancel(receive);
      ASSERT_FALSE(queue->submit());
    }
    ASSERT_EQ(next_ended(*queue), &receive);
    ASSERT_EQ(queue->reap(), nullptr);
    const int number = sockets.ours();
    sockets.close_ours();
    sockets.write("nobody waits for this");
    EXPECT_FALSE(is_readable(queue->descriptor()));

    socket_pair again;
    ASSERT_EQ(::dup2(again.ours(), number), number);
    receive_operation second{number};
    queue->start(second);
    ASSERT_FALSE(queue->submit());
    EXPECT_EQ(queue->reap(), nullptr);
    EXPECT_FALSE(is_readable(queue->descriptor()));
    again.write("fresh");
    ASSERT_EQ(next_ended(*queue), &second);
    EXPECT_EQ(second.text(), "fresh");
    if (number != again.ours()) ::close(number);
    ::close(kept);
  }
}

}  // namespace
}  // namespace shmpool::loop
