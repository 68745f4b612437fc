// What only the ring can do wrong: running out of room, and a kernel that refuses to be entered for a while.

#include "loop/uring_queue.hpp"

#include <sys/syscall.h>

#include <deque>
#include <thread>

#include "loop/queue_fixture.hpp"
#include "loop/system_call_filter.hpp"

namespace shmpool::loop {
namespace {

TEST(uring_queue_test, more_operations_than_the_ring_holds_wait_outside_and_follow) {
  uring_queue queue{4, 16};
  ASSERT_EQ(queue.capacity(), 12U);
  std::deque<socket_pair> sockets(40);
  std::deque<receive_operation> receives;
  for (const socket_pair& pair : sockets) {
    receives.emplace_back(pair.ours());
    queue.start(receives.back());
  }
  ASSERT_FALSE(queue.submit());
  EXPECT_EQ(queue.reap(), nullptr);
  // In order, so that each that ends makes room for one that has not begun.
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    sockets[i].write("x");
    ASSERT_EQ(next_ended(queue), &receives[i]);
    ASSERT_EQ(receives[i].result, 1);
  }
  EXPECT_EQ(queue.reap(), nullptr);
}

TEST(uring_queue_test, operations_outside_a_full_ring_can_be_cancelled) {
  uring_queue queue{4, 16};
  socket_pair sockets;
  std::deque<receive_operation> receives;
  for (int i = 0; i < 40; ++i) {
    receives.emplace_back(sockets.ours());
    queue.start(receives.back());
  }
  ASSERT_FALSE(queue.submit());
  for (receive_operation& receive : receives) queue.cancel(receive);
  ASSERT_FALSE(queue.submit());
  for (int i = 0; i < 40; ++i) ASSERT_EQ(next_ended(queue)->result, -ECANCELED);
  EXPECT_EQ(queue.reap(), nullptr);
  EXPECT_FALSE(is_readable(queue.descriptor()));
}

TEST(uring_queue_test, cancel_all_empties_a_full_ring) {
  uring_queue queue{4, 16};
  socket_pair sockets;
  std::deque<receive_operation> receives;
  for (int i = 0; i < 40; ++i) {
    receives.emplace_back(sockets.ours());
    queue.start(receives.back());
  }
  ASSERT_FALSE(queue.submit());
  queue.cancel_all();
  for (const receive_operation& receive : receives) EXPECT_FALSE(receive.pending);
  EXPECT_FALSE(is_readable(queue.descriptor()));
}

// The filter is on a thread of its own, so that the failure passes as soon as another thread takes over.
class uring_queue_refused_test : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(uring_queue, uring_queue_refused_test, ::testing::Values(EAGAIN, EBUSY));

TEST_P(uring_queue_refused_test, nothing_is_lost_when_the_kernel_refuses_to_take_requests) {
  uring_queue queue{4, 16};
  std::deque<socket_pair> sockets(20);
  std::deque<receive_operation> receives;
  for (const socket_pair& pair : sockets) receives.emplace_back(pair.ours());
  std::jthread{[&] {
    ASSERT_TRUE(deny_system_call(SYS_io_uring_enter, static_cast<unsigned>(GetParam())));
    for (receive_operation& receive : receives) queue.start(receive);
    EXPECT_EQ(queue.submit(), std::error_code(GetParam(), std::generic_category()));
    EXPECT_EQ(queue.reap(), nullptr);
    queue.cancel(receives.front());
    queue.cancel(receives.back());
    EXPECT_EQ(queue.submit(), std::error_code(GetParam(), std::generic_category()));
  }}.join();
  int cancelled = 0;
  for (const socket_pair& pair : sockets) pair.write("x");
  ASSERT_FALSE(queue.submit());
  for (std::size_t i = 0; i < receives.size(); ++i) {
    const operation* op = next_ended(queue);
    if (op->result == -ECANCELED) {
      ++cancelled;
    } else {
      ASSERT_EQ(op->result, 1);
    }
  }
  // The last never reached the ring and is cancelled for sure; the first was in it and found its byte.
  EXPECT_GE(cancelled, 1);
  EXPECT_LE(cancelled, 2);
  EXPECT_EQ(queue.reap(), nullptr);
}

}  // namespace
}  // namespace shmpool::loop
