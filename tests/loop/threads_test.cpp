// Completion queues that several threads use in turn, whose submitting threads exit, and that a forked child inherits.

#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <mutex>
#include <thread>

#include "loop/completion_queue.hpp"
#include "loop/queue_fixture.hpp"

namespace shmpool::loop {
namespace {

using threads_test = on_each_backend;
SHMPOOL_ON_EACH_BACKEND(threads_test);

// io_uring cancels the requests of a thread that exits; the queue must not pass that on.
TEST_P(threads_test, operations_outlive_the_thread_that_submitted_them) {
  socket_pair sockets;
  socket_pair full;
  const std::string text = pattern(std::size_t{1} << 20);
  receive_operation receive{sockets.ours()};
  poll_operation poll{operation::kind::poll_in, sockets.ours()};
  send_operation send{full.ours(), text};
  std::jthread{[&] {
    queue->start(receive);
    queue->start(poll);
    queue->start(send);
    EXPECT_FALSE(queue->submit());
  }}.join();
  // The cancellations, if any, are taken in here and not reported.
  EXPECT_EQ(queue->reap(), nullptr);
  std::string arrived(text.size(), '\0');
  std::jthread reader{[&] { ::recv(full.theirs(), arrived.data(), arrived.size(), MSG_WAITALL); }};
  ASSERT_EQ(next_ended(*queue), &send);
  reader.join();
  EXPECT_EQ(send.result, static_cast<int>(text.size()));
  EXPECT_TRUE(arrived == text);
  EXPECT_TRUE(receive.pending);
  EXPECT_TRUE(poll.pending);
  queue->cancel(poll);
  ASSERT_FALSE(queue->submit());
  ASSERT_EQ(next_ended(*queue), &poll);
  EXPECT_EQ(poll.result, -ECANCELED);
  sockets.write("after");
  ASSERT_EQ(next_ended(*queue), &receive);
  EXPECT_EQ(receive.text(), "after");
}

TEST_P(threads_test, a_thread_that_exits_while_bytes_arrive_loses_none) {
  for (int i = 0; i < 300; ++i) {
    socket_pair sockets;
    receive_operation receive{sockets.ours()};
    std::atomic<bool> submitted = false;
    std::thread submitter{[&] {
      queue->start(receive);
      EXPECT_FALSE(queue->submit());
      submitted = true;
    }};
    while (!submitted) std::this_thread::yield();
    sockets.write("x");  // about when the thread exits
    submitter.join();
    ASSERT_EQ(next_ended(*queue), &receive);
    ASSERT_EQ(receive.text(), "x") << receive.result;
    ASSERT_EQ(queue->reap(), nullptr);
  }
}

TEST_P(threads_test, start_submit_and_reap_may_come_from_different_threads) {
  constexpr int rounds = 500;
  constexpr int total = rounds * 8;
  std::array<socket_pair, 8> sockets;
  std::array<int, 8> left{};  // receives still to be started, per socket
  std::deque<receive_operation> receives;
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    left[i] = rounds - 1;
    receives.emplace_back(sockets[i].ours(), 1).owner = &left[i];
    queue->start(receives.back());
  }
  ASSERT_FALSE(queue->submit());
  std::mutex mutex;
  std::atomic<int> reaped = 0;
  // Three threads take turns: whoever reaps an operation starts it again, and another one may submit it.
  const auto serve = [&] {
    while (reaped < total) {
      {
        const std::lock_guard lock{mutex};
        if (operation* op = queue->reap()) {
          EXPECT_EQ(op->result, 1);
          if ((*static_cast<int*>(op->owner))-- > 0) queue->start(*op);
          ++reaped;
        }
      }
      std::this_thread::yield();
      const std::lock_guard lock{mutex};
      EXPECT_FALSE(queue->submit());
    }
  };
  {
    std::array<std::jthread, 3> servers;
    for (std::jthread& server : servers) server = std::jthread{serve};
    for (int i = 0; i < rounds; ++i) {
      for (const socket_pair& pair : sockets) pair.write("x");
    }
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
    while (reaped < total) {
      if (std::chrono::steady_clock::now() > deadline) {
        std::fputs("watchdog: no progress within 20 s\n", stderr);
        std::abort();
      }
      std::this_thread::yield();
    }
  }
  EXPECT_EQ(reaped, total);
}

TEST_P(threads_test, a_thread_that_waits_for_the_descriptor_wakes_while_the_submitter_computes) {
  socket_pair sockets;
  receive_operation receive{sockets.ours()};
  std::atomic<bool> submitted = false;
  std::atomic<bool> stop = false;
  std::jthread submitter{[&] {
    queue->start(receive);
    EXPECT_FALSE(queue->submit());
    submitted = true;
    while (!stop) {  // no system call
    }
  }};
  while (!submitted) std::this_thread::yield();
  sockets.write("x");
  EXPECT_EQ(next_ended(*queue), &receive);
  stop = true;
}

TEST_P(threads_test, a_forked_child_that_destroys_the_queue_leaves_the_parents_operations_alone) {
  socket_pair sockets;
  receive_operation receive{sockets.ours()};
  send_operation send{sockets.ours(), pattern(std::size_t{1} << 20)};
  queue->start(receive);
  queue->start(send);
  ASSERT_FALSE(queue->submit());
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    queue->cancel_all();
    queue.reset();
    ::_exit(receive.pending || send.pending ? 1 : 0);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(queue->reap(), nullptr);
  EXPECT_TRUE(receive.pending);
  sockets.write("still here");
  ASSERT_EQ(next_ended(*queue), &receive);
  EXPECT_EQ(receive.text(), "still here");
  std::string arrived(send.size, '\0');
  std::jthread reader{[&] { ::recv(sockets.theirs(), arrived.data(), arrived.size(), MSG_WAITALL); }};
  ASSERT_EQ(next_ended(*queue), &send);
  EXPECT_EQ(send.result, static_cast<int>(send.size));
}

}  // namespace
}  // namespace shmpool::loop
