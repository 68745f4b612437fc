// Replies that the parent takes from the ring while it is awake: each comes once and in order, whichever way it comes
// and whatever the worker says about it.
#include "pool/reply_reader.hpp"

#include "pool/doorbell.hpp"
#include "pool/worker_channel.hpp"
#include "worker/reply_stream.hpp"

#include <gtest/gtest.h>

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace shmpool::pool {
namespace {

constexpr std::size_t too_large = wire::reply_ring_bytes + 1;
using tasks = std::vector<std::uint64_t>;
using status = reply_reader::status;

class reply_readers : public ::testing::Test {
 protected:
  reply_readers() : parent(1), page(parent.control.page()), stream(parent.worker_end.get(), page) {
    // So that a reply which is too large for the ring can be sent while nobody reads.
    const int size = 212'992;  // which the kernel doubles
    EXPECT_EQ(::setsockopt(parent.worker_end.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
  }

  void reply(std::uint64_t task, std::size_t size = 100) {
    wire::frame_header header;
    header.type = wire::frame_type::value;
    header.task = task;
    stream.append(header, {}, std::vector<std::byte>(size, static_cast<std::byte>(task)));
  }
  void say(wire::frame_type type, std::uint64_t value, std::size_t body = 0) {
    wire::frame_header header;
    header.type = type;
    header.value = value;
    std::vector<std::byte> bytes;
    wire::append_frame(bytes, header, {}, std::vector<std::byte>(body));
    ASSERT_EQ(::send(parent.worker_end.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }

  int in_socket() const {
    int bytes = 0;
    EXPECT_EQ(::ioctl(parent.receive.fd, FIONREAD, &bytes), 0);
    return bytes;
  }
  tasks read() {
    tasks result;
    wire::frame in;
    while ((last = parent.replies.next(in)) == status::frame) {
      result.push_back(in.header.task);
      for (const std::byte each : in.body) EXPECT_EQ(each, static_cast<std::byte>(in.header.task));
    }
    return result;
  }
  tasks look() {
    parent.replies.take_from_ring();
    return read();
  }
  tasks receive() {
    parent.collect_last_words();
    return read();
  }
  /// What a dead worker leaves.
  tasks last_words() {
    tasks result = receive();
    for (const std::uint64_t each : look()) result.push_back(each);
    return result;
  }

  worker_channel parent;
  wire::control_page& page;
  worker::reply_stream stream;
  status last = status::incomplete;
};

TEST_F(reply_readers, takes_what_is_not_sent_while_it_polls) {
  parent.set_polled(true);
  reply(1);
  reply(2);
  stream.flush();
  EXPECT_EQ(in_socket(), 0);
  EXPECT_EQ(look(), (tasks{1, 2}));
  EXPECT_EQ(look(), tasks{});
  stream.flush();
  EXPECT_TRUE(stream.empty()) << "the worker has seen that they were taken";
}

TEST_F(reply_readers, finds_at_the_last_look_what_was_not_sent) {
  parent.set_polled(true);
  reply(1);
  stream.flush();
  parent.set_polled(false);
  EXPECT_EQ(look(), tasks{1});
  reply(2);
  stream.flush();
  EXPECT_EQ(receive(), tasks{2});
  EXPECT_EQ(look(), tasks{});
}

TEST_F(reply_readers, is_sent_what_is_published_before_and_flushed_behind_the_end_of_polling) {
  parent.set_polled(true);
  reply(1);
  parent.set_polled(false);
  EXPECT_EQ(look(), tasks{1});
  reply(2);
  stream.flush();
  EXPECT_EQ(receive(), tasks{2}) << "behind a word that the first need not be sent";
  EXPECT_EQ(last, status::incomplete);
}

TEST_F(reply_readers, drops_what_comes_both_ways) {
  reply(1);
  reply(2);
  stream.flush();
  EXPECT_EQ(look(), (tasks{1, 2}));
  reply(3);
  stream.flush();
  EXPECT_EQ(receive(), tasks{3});
}

TEST_F(reply_readers, drops_a_rest_that_was_taken_while_it_came_in) {
  reply(1, 1000);
  ASSERT_EQ(::send(parent.worker_end.get(), page.reply_ring, 10, 0), 10);
  EXPECT_EQ(receive(), tasks{});
  EXPECT_EQ(look(), tasks{1});
  ASSERT_EQ(::send(parent.worker_end.get(), page.reply_ring + 10, 1022, 0), 1022);
  EXPECT_EQ(receive(), tasks{});
  EXPECT_EQ(last, status::incomplete);
}

TEST_F(reply_readers, is_sent_what_the_ring_has_no_room_for_and_polls_on) {
  parent.set_polled(true);
  for (std::uint64_t task = 1; task <= 30; ++task) reply(task, wire::reply_ring_bytes / 22);
  EXPECT_GT(in_socket(), 0);
  EXPECT_EQ(look(), tasks{}) << "the first are gone from the ring";
  EXPECT_TRUE(parent.replies.behind());
  tasks all = receive();
  for (const std::uint64_t each : look()) all.push_back(each);
  ASSERT_EQ(all.size(), 30U);
  for (std::uint64_t task = 1; task <= 30; ++task) EXPECT_EQ(all[task - 1], task);
  EXPECT_FALSE(parent.replies.behind());
  reply(31);
  stream.flush();
  EXPECT_EQ(in_socket(), 0);
  EXPECT_EQ(look(), tasks{31});
}

// The last look found nothing, as the large reply was on its way, and nobody looked again.
TEST_F(reply_readers, knows_that_it_is_to_look_again_when_a_large_reply_has_come_in) {
  parent.set_polled(true);
  reply(1, too_large);
  reply(2);
  stream.flush();
  parent.set_polled(false);
  EXPECT_EQ(look(), tasks{});
  EXPECT_TRUE(parent.replies.behind());
  EXPECT_EQ(receive(), tasks{1});
  EXPECT_TRUE(parent.replies.behind());
  EXPECT_EQ(look(), tasks{2});
  EXPECT_FALSE(parent.replies.behind());
}

TEST_F(reply_readers, takes_what_is_behind_a_skip) {
  parent.set_polled(true);
  reply(1);
  EXPECT_EQ(look(), tasks{1});
  reply(2, too_large);
  reply(3);
  stream.flush();
  EXPECT_EQ(receive(), tasks{2});
  EXPECT_EQ(look(), tasks{3});
}

TEST_F(reply_readers, has_the_last_words_of_a_worker_that_was_polled) {
  parent.set_polled(true);
  reply(1);
  EXPECT_EQ(look(), tasks{1});
  reply(2);
  stream.flush();
  EXPECT_EQ(last_words(), tasks{2});
}

TEST_F(reply_readers, has_the_last_words_of_a_worker_that_died_as_it_sent) {
  parent.set_polled(true);
  reply(1);
  EXPECT_EQ(look(), tasks{1});
  reply(2);
  say(wire::frame_type::skipped, 132);
  ASSERT_EQ(::send(parent.worker_end.get(), page.reply_ring + 132, 40, 0), 40);
  EXPECT_EQ(last_words(), tasks{2});
}

TEST_F(reply_readers, has_the_last_words_of_a_worker_that_died_behind_a_large_reply) {
  parent.set_polled(true);
  reply(1);
  reply(2, too_large);
  reply(3);
  EXPECT_EQ(last_words(), (tasks{1, 2, 3}));
}

// ---- Lies.

TEST_F(reply_readers, finds_a_skip_backwards) {
  reply(1);
  stream.flush();
  EXPECT_EQ(receive(), tasks{1});
  say(wire::frame_type::skipped, 0);
  EXPECT_EQ(receive(), tasks{});
  EXPECT_EQ(last, status::malformed);
}

TEST_F(reply_readers, finds_a_skip_beyond_what_was_taken) {
  say(wire::frame_type::skipped, 33);
  EXPECT_EQ(receive(), tasks{});
  EXPECT_EQ(last, status::malformed);
}

TEST_F(reply_readers, finds_a_ring_that_ends_within_a_frame) {
  reply(1);
  page.reply_end -= 1;
  EXPECT_EQ(look(), tasks{});
  EXPECT_EQ(last, status::malformed);
}

TEST_F(reply_readers, finds_frames_on_the_socket_that_are_not_what_was_taken) {
  reply(1);
  EXPECT_EQ(look(), tasks{1});
  say(wire::frame_type::value, 0, 101);  // one byte longer
  EXPECT_EQ(receive(), tasks{});
  EXPECT_EQ(last, status::malformed);
}

// Those replies were kept, as somebody looked, and could never be taken.
TEST_F(reply_readers, finds_the_beginning_of_the_ring_again_with_the_next_reply) {
  parent.set_polled(true);
  page.reply_begin = ~std::uint64_t{0};
  reply(1);
  EXPECT_EQ(look(), tasks{1});
  page.reply_begin = ~std::uint64_t{0};
  reply(2);
  page.reply_end = 0;
  reply(3);
  EXPECT_EQ(look(), (tasks{2, 3}));
}

TEST_F(reply_readers, knows_a_socket_that_is_ahead_of_the_ring) {
  reply(1);
  stream.flush();
  EXPECT_EQ(receive(), tasks{1});
  EXPECT_EQ(look(), tasks{});
  EXPECT_FALSE(parent.replies.ahead());
  say(wire::frame_type::value, 0, 500);
  EXPECT_EQ(receive(), tasks{0});
  reply(2);  // shorter, so that the parent believes to have read its place
  EXPECT_EQ(look(), tasks{});
  EXPECT_TRUE(parent.replies.ahead());
}

TEST_F(reply_readers, ignores_positions_that_cannot_be) {
  reply(1);
  stream.flush();
  EXPECT_EQ(receive(), tasks{1});
  const std::uint64_t end = page.reply_end;
  for (const std::uint64_t lie : {std::uint64_t{0}, end - 1, end + wire::reply_ring_bytes + 1, ~std::uint64_t{0}}) {
    page.reply_end = lie;
    EXPECT_EQ(look(), tasks{});
    EXPECT_EQ(last, status::incomplete);
  }
  page.reply_end = end;
  for (const std::uint64_t lie : {end + 1, ~std::uint64_t{0}}) {
    page.reply_begin = lie;
    page.reply_end = end + 32;
    EXPECT_EQ(look(), tasks{});
  }
  EXPECT_EQ(last, status::incomplete);
}

// ---- Both at once.

/// Of each worker thread, which waits for it now and then.
std::atomic<std::uint64_t> parent_has{0};

/// What the parent does at random: looks as it polls, stops and begins to poll, reads the socket. It sleeps, as the
/// engine would, once it has stopped to poll and has looked: what is neither rung for then nor comes through the socket
/// is lost. Without a bell it sleeps at the socket.
void take_all(worker_channel& parent, doorbell* bell, std::uint64_t count, std::mt19937_64 random) {
  std::uint64_t expected = 1;
  bool right = true;
  const auto read = [&] {
    wire::frame in;
    status found;
    while ((found = parent.replies.next(in)) == status::frame) {
      right &= in.header.task == expected++;
      for (std::size_t i = 0; i < in.body.size(); i += 97)
        right &= in.body[i] == static_cast<std::byte>(in.header.task + i);
    }
    right &= found == status::incomplete;
    parent_has = right ? expected - 1 : ~std::uint64_t{0};
  };
  const auto look = [&] {
    if (parent.replies.take_from_ring()) read();
    else right &= !parent.replies.ahead();
  };
  const auto receive = [&](int flags) {
    const auto room = parent.replies.prepare();
    const ssize_t size = ::recv(parent.receive.fd, room.data(), 1 + random() % room.size(), flags);
    if (size > 0) parent.replies.commit(static_cast<std::size_t>(size));
    read();
    if (parent.replies.behind()) look();
  };
  const auto sleep = [&] {
    if (!bell) return receive(0);
    pollfd both[] = {{parent.receive.fd, POLLIN, 0}, {bell->to_hear(), POLLIN, 0}};
    while (::poll(both, 2, -1) < 0) {
    }
    if (both[0].revents != 0) receive(MSG_DONTWAIT);
    if (bell->next()) {
      parent.before_look();
      look();
    }
    // Others ring as well, and may fill the pipe.
    const std::uint32_t other = 9;
    if (random() % 1000 == 0)
      while (::write(bell->to_ring(), &other, sizeof other) > 0) {
      }
  };
  while (right && expected <= count) {
    parent.set_polled(true);
    for (auto looks = random() % 100; looks != 0; --looks) {
      look();
      if (random() % 8 == 0) receive(MSG_DONTWAIT);
    }
    parent.set_polled(false);
    look();
    for (auto sleeps = random() % 4; sleeps != 0 && right && expected <= count; --sleeps) sleep();
  }
  ASSERT_TRUE(right) << "reply " << expected - 1 << ": " << parent.replies.why();
  EXPECT_EQ(expected, count + 1);
}

class reply_readers_of_a_worker_that_runs : public ::testing::TestWithParam<bool> {};

TEST_P(reply_readers_of_a_worker_that_runs, get_every_reply_once_and_in_order) {
  constexpr std::uint64_t count = 50'000;
  ::alarm(120);  // a reply that is lost is one that is waited for
  for (std::uint64_t seed = 1; seed != 4 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    worker_channel to(1);
    doorbell bell;
    const bool rings = GetParam() && bell.to_ring() >= 0;
    parent_has = 0;
    std::thread worker([&to, &bell, rings, seed] {
      worker::reply_stream out(to.worker_end.get(), to.control.page());
      if (rings) out.have_bell(unique_fd(::dup(bell.to_ring())), 1);
      std::mt19937_64 random(seed);
      for (std::uint64_t task = 1; task <= count; ++task) {
        wire::frame_header header;
        header.type = wire::frame_type::value;
        header.task = task;
        std::vector<std::byte> body(random() % (random() % 500 == 0  ? 2 * too_large
                                                : random() % 20 == 0 ? too_large / 4
                                                                     : 200));
        for (std::size_t i = 0; i < body.size(); i += 97) body[i] = static_cast<std::byte>(task + i);
        out.append(header, {}, body);
        if (random() % 3 != 0) continue;
        out.flush();
        if (random() % 4 != 0) continue;
        // It has nothing to do: what the parent has not heard of by now, it must hear of all the same.
        while (parent_has < task) std::this_thread::yield();
      }
      out.flush();
    });
    take_all(to, rings ? &bell : nullptr, count, std::mt19937_64(seed + 100));
    worker.join();
  }
  ::alarm(0);
}

INSTANTIATE_TEST_SUITE_P(and_replies, reply_readers_of_a_worker_that_runs, ::testing::Bool(),
                         [](const auto& each) { return each.param ? "by_bell" : "by_socket"; });

}  // namespace
}  // namespace shmpool::pool
