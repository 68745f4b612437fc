// A reply that was finished reaches the parent, whether it was sent or not: what the worker had not sent when it died
// is taken from the ring.
#include "worker/reply_stream.hpp"

#include "pool/doorbell.hpp"
#include "pool/worker_channel.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <thread>
#include <vector>

namespace shmpool::worker {
namespace {

class reply_streams : public ::testing::Test {
 protected:
  reply_streams() : parent(1), stream(parent.worker_end.get(), parent.control.page()) {}

  void reply(std::uint64_t task, std::size_t size) {
    wire::frame_header header;
    header.type = wire::frame_type::value;
    header.task = task;
    stream.append(header, {}, std::vector<std::byte>(size, static_cast<std::byte>(task)));
  }

  /// All frames that the parent can still get hold of.
  std::vector<std::uint64_t> last_words() {
    parent.collect_last_words();
    std::vector<std::uint64_t> tasks = read();
    parent.replies.take_from_ring();
    for (const std::uint64_t each : read()) tasks.push_back(each);
    return tasks;
  }

  /// The frames that the parent has got hold of.
  std::vector<std::uint64_t> read() {
    std::vector<std::uint64_t> tasks;
    wire::frame in;
    while (parent.replies.next(in) == wire::frame_reader::status::frame) {
      tasks.push_back(in.header.task);
      for (const std::byte each : in.body) EXPECT_EQ(each, static_cast<std::byte>(in.header.task));
    }
    return tasks;
  }

  pool::worker_channel parent;
  reply_stream stream;
};

TEST_F(reply_streams, unsent_replies_are_found_in_the_ring) {
  reply(1, 100);
  reply(2, 200);
  EXPECT_EQ(last_words(), (std::vector<std::uint64_t>{1, 2}));
}

TEST_F(reply_streams, sent_and_unsent_replies_come_once_and_in_order) {
  reply(1, 100);
  stream.flush();
  EXPECT_TRUE(stream.empty());
  reply(2, 100);
  stream.flush();
  reply(3, 100);
  EXPECT_EQ(last_words(), (std::vector<std::uint64_t>{1, 2, 3}));
}

TEST_F(reply_streams, the_ring_wraps_around) {
  std::vector<std::uint64_t> expected;
  for (std::uint64_t task = 1; task != 100; ++task) {
    reply(task, wire::reply_ring_bytes / 22);
    if (task % 3 == 0) stream.flush();
    expected.push_back(task);
    if (task % 9 == 0) {  // the parent reads now and then, or the socket fills up
      EXPECT_EQ(last_words(), expected);
      expected.clear();
    }
  }
  EXPECT_EQ(last_words(), expected);
}

TEST_F(reply_streams, a_replies_bytes_sent_in_part_are_completed_from_the_ring) {
  reply(1, 1000);
  // The worker died in the middle of a send: the kernel took 10 bytes, and nobody noted it.
  ASSERT_EQ(::send(parent.worker_end.get(), parent.control.page().reply_ring, 10, 0), 10);
  EXPECT_EQ(last_words(), (std::vector<std::uint64_t>{1}));
}

TEST_F(reply_streams, a_large_reply_goes_around_the_ring) {
  reply(1, 10);
  std::thread worker([this] {
    reply(2, 1'000'000);
    reply(3, 10);
    stream.flush();
    parent.worker_end.reset();
  });
  std::vector<std::uint64_t> tasks;
  for (;;) {  // the parent reads while it is written
    const auto room = parent.replies.prepare();
    const ssize_t got = ::recv(parent.receive.fd, room.data(), room.size(), 0);
    if (got <= 0) break;
    parent.replies.commit(static_cast<std::size_t>(got));
    for (const std::uint64_t each : read()) tasks.push_back(each);
  }
  worker.join();
  EXPECT_EQ(tasks, (std::vector<std::uint64_t>{1, 2, 3}));
  EXPECT_TRUE(last_words().empty());
}

// ---- The bell.

class reply_streams_with_a_bell : public reply_streams {
 protected:
  void SetUp() override {
    if (bell.to_ring() < 0) GTEST_SKIP() << "this kernel has no pipes of packets";
    stream.have_bell(unique_fd(::dup(bell.to_ring())), 7);
  }
  void reply_at_once(std::uint64_t task) {
    reply(task, 10);
    stream.flush();
  }
  unsigned rings() {
    unsigned count = 0;
    for (auto each = bell.next(); each; each = bell.next(), ++count) EXPECT_EQ(*each, 7U);
    return count;
  }
  int in_socket() const {
    int bytes = 0;
    EXPECT_EQ(::ioctl(parent.receive.fd, FIONREAD, &bytes), 0);
    return bytes;
  }
  std::vector<std::uint64_t> look() {
    parent.replies.take_from_ring();
    return read();
  }

  pool::doorbell bell;
};

using tasks = std::vector<std::uint64_t>;

TEST_F(reply_streams_with_a_bell, ring_once_for_each_look) {
  reply_at_once(1);
  reply_at_once(2);
  EXPECT_EQ(rings(), 1U) << "the parent is to look already";
  parent.before_look();
  EXPECT_EQ(look(), (tasks{1, 2}));
  reply_at_once(3);
  EXPECT_EQ(rings(), 1U);
  parent.before_look();
  EXPECT_EQ(look(), tasks{3});
  EXPECT_EQ(in_socket(), 0);
}

TEST_F(reply_streams_with_a_bell, ring_again_for_a_reply_that_comes_as_the_parent_is_about_to_look) {
  reply_at_once(1);
  parent.before_look();
  reply_at_once(2);
  EXPECT_EQ(look(), (tasks{1, 2}));
  EXPECT_EQ(rings(), 2U) << "the second may be too much, and costs a look";
}

TEST_F(reply_streams_with_a_bell, are_quiet_while_the_parent_polls) {
  parent.set_polled(true);
  reply_at_once(1);
  EXPECT_EQ(rings(), 0U);
  parent.set_polled(false);
  EXPECT_EQ(look(), tasks{1});
  reply_at_once(2);
  EXPECT_EQ(rings(), 1U);
}

TEST_F(reply_streams_with_a_bell, ring_for_a_parent_that_has_polled_since_it_was_rung_for) {
  reply_at_once(1);
  parent.set_polled(true);
  EXPECT_EQ(look(), tasks{1});
  parent.set_polled(false);
  reply_at_once(2);
  EXPECT_EQ(rings(), 2U);
}

// Another worker has filled the pipe, perhaps with nonsense: the socket is this worker's own.
TEST_F(reply_streams_with_a_bell, send_if_the_bell_has_no_room) {
  const std::uint32_t other = 7;
  while (::write(bell.to_ring(), &other, sizeof other) > 0) {
  }
  reply_at_once(1);
  EXPECT_GT(in_socket(), 0);
  EXPECT_GT(rings(), 0U);
  reply_at_once(2);
  EXPECT_EQ(rings(), 1U) << "it has room again";
  EXPECT_EQ(last_words(), (tasks{1, 2}));
}

TEST_F(reply_streams_with_a_bell, send_if_the_bell_cannot_be_rung) {
  stream.have_bell(unique_fd(::open("/dev/null", O_RDONLY | O_CLOEXEC)), 7);
  reply_at_once(1);
  EXPECT_GT(in_socket(), 0);
  EXPECT_EQ(last_words(), tasks{1});
}

TEST_F(reply_streams, nonsense_in_the_control_page_is_ignored) {
  reply(1, 10);
  stream.flush();
  parent.control.page().reply_end = ~std::uint64_t{0};
  EXPECT_EQ(last_words(), (std::vector<std::uint64_t>{1}));
}

}  // namespace
}  // namespace shmpool::worker
