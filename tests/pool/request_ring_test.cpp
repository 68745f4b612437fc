// The parent's end of the ring of frames: room, order, and when a worker has to be woken.
#include "pool/request_ring.hpp"

#include "process/unique_fd.hpp"
#include "support/environment.hpp"
#include "worker/request_stream.hpp"

#include <gtest/gtest.h>

#include <sched.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace shmpool::pool {
namespace {

constexpr std::size_t head = sizeof(wire::frame_header);

class request_rings : public ::testing::Test {
 protected:
  bool put(std::uint64_t task, std::size_t body = 0) {
    wire::frame_header header;
    header.type = wire::frame_type::task;
    header.task = task;
    return ring.put(header, {}, std::vector<std::byte>(body, std::byte(task)));
  }
  /// As a worker that takes all it can get.
  void take() { page->frames_taken = page->frames_end.load(); }

  std::unique_ptr<wire::control_page> page = std::make_unique<wire::control_page>();
  request_ring ring{*page};
};

TEST_F(request_rings, shows_frames_only_when_they_are_published) {
  EXPECT_TRUE(ring.is_published());
  ASSERT_TRUE(put(1));
  ASSERT_TRUE(put(2, 100));
  EXPECT_FALSE(ring.is_published());
  EXPECT_EQ(page->frames_end, 0U);
  ring.publish();
  EXPECT_TRUE(ring.is_published());
  EXPECT_EQ(page->frames_end, 2 * head + 100);
}

TEST_F(request_rings, keeps_room_for_the_frame_that_leads_to_the_socket) {
  EXPECT_FALSE(put(1, wire::request_ring_bytes - 2 * head + 1)) << "it would fit, but nothing behind it";
  EXPECT_TRUE(put(1, wire::request_ring_bytes - 2 * head));
  EXPECT_FALSE(put(2));
  ring.put_switch();
  ring.publish();
  EXPECT_EQ(page->frames_end, wire::request_ring_bytes);
  EXPECT_FALSE(ring.is_roomy());
  take();
  EXPECT_TRUE(ring.is_roomy());
  EXPECT_TRUE(put(2, wire::request_ring_bytes - 2 * head));
}

TEST_F(request_rings, never_has_room_for_a_frame_that_is_too_large) {
  EXPECT_FALSE(put(1, wire::request_ring_bytes));
  EXPECT_FALSE(put(1, 10 * wire::request_ring_bytes));
  EXPECT_TRUE(ring.is_published());
}

TEST_F(request_rings, does_not_overwrite_what_was_not_taken) {
  const std::size_t half = wire::request_ring_bytes / 2 - head;
  ASSERT_TRUE(put(1, half));
  ring.publish();
  EXPECT_FALSE(put(2, half));
  page->frames_taken = head - 10;
  EXPECT_FALSE(put(2, half)) << "ten bytes less than it needs";
  take();
  EXPECT_TRUE(put(2, half));
}

// What a worker says it has taken is believed only as far as it was published.
TEST_F(request_rings, believes_no_nonsense_of_what_was_taken) {
  const std::size_t half = wire::request_ring_bytes / 2 - head;
  ASSERT_TRUE(put(1, half));
  ring.publish();
  for (const std::uint64_t lie : {page->frames_end + 1, ~std::uint64_t{0}, std::uint64_t{1} << 40}) {
    page->frames_taken = lie;
    EXPECT_FALSE(put(2, half)) << lie;
  }
  take();
  ASSERT_TRUE(put(2, half));
  ring.publish();
  page->frames_taken = 0;
  EXPECT_FALSE(put(3, half)) << "and what it has taken it has";
}

TEST_F(request_rings, tells_the_worker_where_the_parent_runs) {
  cpu_set_t before, one;
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  for (unsigned cpu = 0; cpu != CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &before)) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
    put(1);
    ring.publish();
    EXPECT_EQ(page->parent_cpu, cpu);
  }
  ASSERT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
}

// ---- Waking.

TEST_F(request_rings, has_a_worker_that_sleeps_at_its_socket_woken_once_for_each_sleep) {
  page->sleeps_at_socket = 1;
  put(1);
  EXPECT_FALSE(ring.publish()) << "it is awake";
  page->sleeps = 1;
  put(2);
  EXPECT_TRUE(ring.publish());
  put(3);
  EXPECT_FALSE(ring.publish()) << "it was woken already";
  page->sleeps = 2;
  put(4);
  EXPECT_FALSE(ring.publish());
  page->sleeps = 3;
  put(5);
  EXPECT_TRUE(ring.publish());
}

TEST_F(request_rings, wakes_nobody_for_nothing) {
  page->sleeps_at_socket = 1;
  page->sleeps = 1;
  EXPECT_FALSE(ring.publish());
  put(1);
  EXPECT_TRUE(ring.publish());
}

// ---- Both ends.

class both_ends_of_request_rings : public request_rings, public ::testing::WithParamInterface<bool> {};

/// Frames of random sizes reach a thread in order, whichever way each takes, and the thread sleeps now and then.
TEST_P(both_ends_of_request_rings, have_every_frame_in_order) {
  page->wakes_by_futex = GetParam() ? 1 : 0;
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const unique_fd parent(ends[0]), child(ends[1]);
  constexpr std::uint64_t last = 20'000;
  std::string wrong;
  std::thread worker([&] {
    worker::request_stream stream(child.get(), *page);
    for (std::uint64_t expected = 1; expected <= last && wrong.empty();) {
      wire::frame in;
      if (!stream.next(in)) {
        if (stream.receive() == worker::request_stream::arrival::end) wrong = "the stream has ended";
        continue;
      }
      if (in.header.task != expected) wrong = "task " + std::to_string(in.header.task);
      for (const std::byte each : in.body) {
        if (each != std::byte(expected)) wrong = "body of " + std::to_string(expected);
      }
      ++expected;
    }
  });
  std::mt19937_64 random(testing::from_environment("SHMPOOL_SEED", 1));
  const auto send = [&](const std::vector<std::byte>& bytes) {
    ASSERT_EQ(::send(parent.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  };
  std::vector<std::byte> out;  // for the socket
  bool on_socket = false;
  for (std::uint64_t task = 1; task <= last; ++task) {
    page->spin_ns = random() % 4 == 0 ? 20'000 : 0;
    const std::size_t body = random() % 100 == 0 ? random() % (2 * wire::request_ring_bytes) : random() % 500;
    wire::frame_header header;
    header.type = wire::frame_type::task;
    header.task = task;
    const std::vector<std::byte> filling(body, std::byte(task));
    if (on_socket || !ring.put(header, {}, filling)) {
      if (!std::exchange(on_socket, true)) ring.put_switch();
      wire::append_frame(out, header, {}, filling);
    }
    if (random() % 3 != 0 && task != last) continue;  // several are shown together
    bool wake = ring.publish();
    if (on_socket && ring.is_roomy()) {
      wire::frame_header back;
      back.type = wire::frame_type::by_ring;
      wire::append_frame(out, back, {}, {});
      on_socket = false;
    }
    if (wake && out.empty()) {
      wire::frame_header signal;
      signal.type = wire::frame_type::wake;
      wire::append_frame(out, signal, {}, {});
    }
    if (!out.empty()) send(out);
    out.clear();
  }
  worker.join();
  EXPECT_EQ(wrong, "");
}

INSTANTIATE_TEST_SUITE_P(woken, both_ends_of_request_rings, ::testing::Bool(),
                         [](const auto& each) { return each.param ? "by_a_futex" : "by_the_socket"; });

}  // namespace
}  // namespace shmpool::pool
