// Cancelling operations in a completion queue, one by one and all at once: each is reaped exactly once, and no buffer
// is touched afterwards.

#include <deque>
#include <thread>

#include "loop/completion_queue.hpp"
#include "loop/queue_fixture.hpp"

namespace shmpool::loop {
namespace {

using cancellation_test = on_each_backend;
SHMPOOL_ON_EACH_BACKEND(cancellation_test);

void expect_drained(completion_queue& queue) {
  EXPECT_EQ(queue.reap(), nullptr);
  EXPECT_FALSE(is_readable(queue.descriptor()));
}

TEST_P(cancellation_test, a_pending_operation_reports_ecanceled_exactly_once) {
  socket_pair sockets;
  receive_operation receive{sockets.ours()};
  poll_operation poll{operation::kind::poll_in, sockets.ours()};
  send_operation send{sockets.ours(), pattern(std::size_t{4} << 20)};
  for (operation* op :
       {static_cast<operation*>(&receive), static_cast<operation*>(&poll), static_cast<operation*>(&send)}) {
    queue->start(*op);
    ASSERT_FALSE(queue->submit());
    ASSERT_EQ(queue->reap(), nullptr);
    queue->cancel(*op);
    queue->cancel(*op);  // again: no effect
    ASSERT_FALSE(queue->submit());
    EXPECT_TRUE(is_readable(queue->descriptor(), 20'000));
    ASSERT_EQ(next_ended(*queue), op);
    EXPECT_EQ(op->result, -ECANCELED);
    EXPECT_FALSE(op->pending);
    EXPECT_FALSE(op->cancelling);
    expect_drained(*queue);
  }
  EXPECT_GT(send.done, 0U);
}

TEST_P(cancellation_test, an_operation_can_be_cancelled_before_it_is_submitted) {
  socket_pair sockets;
  receive_operation receive{sockets.ours()};
  queue->start(receive);
  queue->cancel(receive);
  ASSERT_FALSE(queue->submit());
  EXPECT_TRUE(is_readable(queue->descriptor()));
  ASSERT_EQ(queue->reap(), &receive);
  EXPECT_EQ(receive.result, -ECANCELED);
  expect_drained(*queue);
  sockets.write("x");  // nobody takes it
  EXPECT_TRUE(is_readable(sockets.ours()));
}

TEST_P(cancellation_test, cancelling_what_is_not_pending_has_no_effect) {
  socket_pair sockets;
  sockets.write("xy");
  receive_operation receive{sockets.ours(), 1};
  queue->cancel(receive);
  queue->start(receive);
  ASSERT_FALSE(queue->submit());
  ASSERT_EQ(next_ended(*queue), &receive);
  EXPECT_EQ(receive.result, 1);
  queue->cancel(receive);
  ASSERT_FALSE(queue->submit());
  expect_drained(*queue);
  queue->start(receive);  // and the next run is not cancelled by it
  ASSERT_FALSE(queue->submit());
  ASSERT_EQ(next_ended(*queue), &receive);
  EXPECT_EQ(receive.result, 1);
}

TEST_P(cancellation_test, an_operation_that_ended_before_the_cancel_keeps_its_result) {
  socket_pair sockets;
  send_operation send{sockets.ours(), "x"};
  queue->start(send);
  ASSERT_FALSE(queue->submit());
  queue->cancel(send);
  ASSERT_FALSE(queue->submit());
  ASSERT_EQ(next_ended(*queue), &send);
  EXPECT_EQ(send.result, 1);
  while (queue->reap() != nullptr) FAIL() << "reaped twice";
}

TEST_P(cancellation_test, a_cancelled_receive_leaves_another_operation_on_the_descriptor_alone) {
  socket_pair sockets;
  receive_operation receive{sockets.ours()};
  send_operation send{sockets.ours(), pattern(std::size_t{1} << 20)};
  queue->start(receive);
  queue->start(send);
  ASSERT_FALSE(queue->submit());
  queue->cancel(receive);
  ASSERT_FALSE(queue->submit());
  ASSERT_EQ(next_ended(*queue), &receive);
  EXPECT_EQ(receive.result, -ECANCELED);
  std::string arrived(send.size, '\0');
  std::jthread reader{[&] { ::recv(sockets.theirs(), arrived.data(), arrived.size(), MSG_WAITALL); }};
  ASSERT_EQ(next_ended(*queue), &send);
  EXPECT_EQ(send.result, static_cast<int>(send.size));
}

TEST_P(cancellation_test, a_cancel_that_races_with_completion_reaps_once_and_loses_no_byte) {
  socket_pair sockets;
  std::jthread writer;
  int cancelled = 0;
  for (int i = 0; i < 2000; ++i) {
    receive_operation receive{sockets.ours(), 1};
    queue->start(receive);
    ASSERT_FALSE(queue->submit());
    writer = std::jthread{[&] { sockets.write("x"); }};
    if (i % 3 == 0) std::this_thread::yield();
    queue->cancel(receive);
    ASSERT_FALSE(queue->submit());
    ASSERT_EQ(next_ended(*queue), &receive);
    ASSERT_EQ(queue->reap(), nullptr);
    writer.join();
    if (receive.result == -ECANCELED) {
      ++cancelled;
      char byte = 0;
      ASSERT_EQ(::recv(sockets.ours(), &byte, 1, MSG_DONTWAIT), 1);
    } else {
      ASSERT_EQ(receive.result, 1);
      ASSERT_FALSE(is_readable(sockets.ours()));
    }
  }
  RecordProperty("cancelled", cancelled);
}

TEST_P(cancellation_test, twenty_thousand_operations_can_be_cancelled_one_by_one) {
  std::array<socket_pair, 4> sockets;
  std::deque<receive_operation> receives;
  for (std::size_t i = 0; i < 20'000; ++i) {
    receives.emplace_back(sockets[i % sockets.size()].ours(), 1);
    queue->start(receives.back());
  }
  ASSERT_FALSE(queue->submit());
  for (receive_operation& receive : receives) queue->cancel(receive);
  ASSERT_FALSE(queue->submit());
  for (std::size_t i = 0; i < receives.size(); ++i) ASSERT_EQ(next_ended(*queue)->result, -ECANCELED);
  expect_drained(*queue);
}

TEST_P(cancellation_test, after_cancel_all_nothing_is_pending_and_buffers_may_go) {
  socket_pair sockets;
  socket_pair other;
  auto receive = std::make_unique<receive_operation>(sockets.ours());
  auto send = std::make_unique<send_operation>(sockets.ours(), pattern(std::size_t{4} << 20));
  auto poll = std::make_unique<poll_operation>(operation::kind::poll_in, other.ours());
  auto unsubmitted = std::make_unique<receive_operation>(other.ours());
  auto unreaped = std::make_unique<send_operation>(other.ours(), "x");
  auto cancelled = std::make_unique<receive_operation>(other.ours());
  for (operation* op :
       std::initializer_list<operation*>{receive.get(), send.get(), poll.get(), unreaped.get(), cancelled.get()}) {
    queue->start(*op);
  }
  ASSERT_FALSE(queue->submit());
  queue->start(*unsubmitted);
  queue->cancel(*cancelled);
  queue->cancel_all();
  for (operation* op : std::initializer_list<operation*>{receive.get(), send.get(), poll.get(), unsubmitted.get(),
                                                         unreaped.get(), cancelled.get()}) {
    EXPECT_FALSE(op->pending);
  }
  // What the kernel would still write now lands in memory that must keep its value.
  std::fill(receive->buffer.begin(), receive->buffer.end(), std::byte{0x11});
  sockets.write("late");
  expect_drained(*queue);
  EXPECT_EQ(receive->buffer.front(), std::byte{0x11});
  EXPECT_TRUE(is_readable(sockets.ours()));
  receive.reset();
  send.reset();
  expect_drained(*queue);
}

TEST_P(cancellation_test, the_queue_serves_again_after_cancel_all) {
  socket_pair sockets;
  receive_operation receive{sockets.ours()};
  for (int i = 0; i < 3; ++i) {
    queue->start(receive);
    ASSERT_FALSE(queue->submit());
    queue->cancel_all();
  }
  queue->start(receive);
  ASSERT_FALSE(queue->submit());
  sockets.write("again");
  ASSERT_EQ(next_ended(*queue), &receive);
  EXPECT_EQ(receive.text(), "again");
}

TEST_P(cancellation_test, cancel_all_ends_what_other_threads_submitted) {
  socket_pair sockets;
  std::deque<receive_operation> receives;
  for (int i = 0; i < 100; ++i) receives.emplace_back(sockets.ours(), 1);
  // The thread lives on, blocked, while its requests are cancelled.
  socket_pair leash;
  socket_pair submitted;
  std::jthread submitter{[&] {
    for (receive_operation& receive : receives) queue->start(receive);
    EXPECT_FALSE(queue->submit());
    ::send(submitted.ours(), "x", 1, 0);
    char byte = 0;
    while (::recv(leash.ours(), &byte, 1, 0) < 0 && errno == EINTR) {
    }
  }};
  ASSERT_TRUE(is_readable(submitted.theirs(), 20'000));
  queue->cancel_all();
  for (const receive_operation& receive : receives) EXPECT_FALSE(receive.pending);
  leash.close_theirs();
}

TEST_P(cancellation_test, the_destructor_cancels_what_is_pending) {
  socket_pair sockets;
  receive_operation receive{sockets.ours()};
  queue->start(receive);
  ASSERT_FALSE(queue->submit());
  queue.reset();
  EXPECT_FALSE(receive.pending);
  sockets.write("x");
  EXPECT_TRUE(is_readable(sockets.ours()));
}

}  // namespace
}  // namespace shmpool::loop
