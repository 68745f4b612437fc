// What the parent sends arrives in order with its descriptors, whether the worker polls for it or sleeps.
#include "worker/request_stream.hpp"

#include "loop/system_call_filter.hpp"
#include "pool/request_ring.hpp"
#include "pool/worker_channel.hpp"
#include "wire/fd_passing.hpp"

#include <gtest/gtest.h>

#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace shmpool::worker {
namespace {

using namespace std::chrono_literals;

class request_streams : public ::testing::Test {
 protected:
  using arrival = request_stream::arrival;

  /// A parent that wakes by the socket, or by a futex.
  explicit request_streams(bool by_futex = false)
      : parent(1), page(wakes(parent.control.page(), by_futex)), ring(page), requests(parent.worker_end.get(), page) {}

  static wire::control_page& wakes(wire::control_page& page, bool by_futex) {
    EXPECT_EQ(page.wakes_by_futex, 1U) << "it can";
    page.wakes_by_futex = by_futex ? 1 : 0;
    return page;
  }

  static wire::frame_header frame(wire::frame_type type, std::uint64_t task = 0) {
    wire::frame_header header;
    header.type = type;
    header.task = task;
    return header;
  }
  static std::vector<std::byte> bytes_of(const wire::frame_header& header) {
    std::vector<std::byte> bytes;
    wire::append_frame(bytes, header, {}, {});
    return bytes;
  }
  static std::vector<std::byte> task(std::uint64_t id) { return bytes_of(frame(wire::frame_type::task, id)); }
  void send(const std::vector<std::byte>& bytes) {
    ASSERT_EQ(::send(parent.receive.fd, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }
  void signal(wire::frame_type type) { send(bytes_of(frame(type))); }
  void put(std::uint64_t id) { ASSERT_TRUE(ring.put(frame(wire::frame_type::task, id), {}, {})); }
  void show(std::uint64_t id) {
    put(id);
    ring.publish();
  }
  void go_on_by_socket() {
    ring.put_switch();
    ring.publish();
  }
  std::vector<std::uint64_t> here() {
    std::vector<std::uint64_t> tasks;
    for (wire::frame in; requests.next(in);) tasks.push_back(in.header.task);
    return tasks;
  }

  pool::worker_channel parent;
  wire::control_page& page;
  pool::request_ring ring;
  request_stream requests;
};

using tasks = std::vector<std::uint64_t>;

TEST_F(request_streams, takes_frames_from_the_ring_without_the_socket) {
  put(1);
  EXPECT_EQ(here(), tasks{}) << "it was not shown yet";
  show(2);
  EXPECT_EQ(requests.receive(), arrival::bytes);
  EXPECT_EQ(here(), (tasks{1, 2}));
  EXPECT_EQ(page.frames_taken, page.frames_end);
  EXPECT_EQ(page.sleeps, 0U) << "there was no need to sleep";
}

TEST_F(request_streams, cuts_bytes_of_the_socket_into_frames) {
  go_on_by_socket();
  auto both = task(1);
  const auto second = task(2);
  both.insert(both.end(), second.begin(), second.begin() + 10);
  EXPECT_EQ(here(), tasks{});
  send(both);
  EXPECT_EQ(requests.receive(), arrival::bytes);
  EXPECT_EQ(here(), tasks{1});
  EXPECT_TRUE(requests.is_within_frame());
  send({second.begin() + 10, second.end()});
  EXPECT_EQ(requests.receive(), arrival::bytes);
  EXPECT_EQ(here(), tasks{2});
  EXPECT_FALSE(requests.is_within_frame());
}

TEST_F(request_streams, goes_to_the_socket_and_back_as_it_is_told) {
  requests.wait_at_most(1ms);
  put(1);
  go_on_by_socket();
  send(task(2));
  send(task(3));
  signal(wire::frame_type::by_ring);
  show(4);
  EXPECT_EQ(here(), tasks{1}) << "the fourth is there, but not its turn";
  EXPECT_EQ(requests.receive(), arrival::bytes);
  EXPECT_EQ(here(), (tasks{2, 3, 4}));
  EXPECT_EQ(requests.receive(), arrival::nothing);
}

// The socket can be faster than the ring: a worker that wakes up reads both.
TEST_F(request_streams, keeps_what_comes_on_the_socket_before_it_is_told_to_go_there) {
  requests.wait_at_most(1ms);
  signal(wire::frame_type::wake);
  send(task(2));
  signal(wire::frame_type::wake);
  EXPECT_EQ(requests.receive(), arrival::bytes);
  EXPECT_EQ(here(), tasks{});
  put(1);
  go_on_by_socket();
  EXPECT_EQ(here(), (tasks{1, 2}));
  signal(wire::frame_type::by_ring);
  show(3);
  EXPECT_EQ(requests.receive(), arrival::bytes);
  EXPECT_EQ(here(), tasks{3});
}

TEST_F(request_streams, finds_frames_by_polling) {
  page.spin_ns = 1'000'000'000;
  // A socket that never blocks: what comes is found by polling or not at all.
  requests.wait_at_most(1us);
  for (std::uint64_t id = 1; id != 100; ++id) {
    show(id);
    ASSERT_EQ(requests.receive(), arrival::bytes);
    EXPECT_EQ(here(), tasks{id});
  }
  EXPECT_EQ(page.sleeps, 0U);
}

// Each side would wait for the time that the other one polls away.
TEST_F(request_streams, does_not_poll_on_the_cpu_of_the_parent) {
  cpu_set_t before, one;
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  CPU_ZERO(&one);
  const int here = ::sched_getcpu();
  ASSERT_GE(here, 0);
  CPU_SET(static_cast<unsigned>(here), &one);
  ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
  page.parent_cpu = static_cast<std::uint32_t>(here);
  page.spin_ns = 1'000'000'000;
  requests.wait_at_most(1ms);
  const auto used = [] {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  };
  const auto begin = used();
  EXPECT_EQ(requests.receive(), arrival::nothing);
  EXPECT_LT(used() - begin, std::chrono::milliseconds(500)) << "it would have polled for a second";
  EXPECT_EQ(page.sleeps, 2U);
  ASSERT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
}

TEST_F(request_streams, says_that_it_sleeps_and_that_it_is_awake) {
  page.spin_ns = 1000;
  requests.wait_at_most(1ms);
  EXPECT_EQ(requests.receive(), arrival::nothing);
  EXPECT_EQ(page.sleeps, 2U) << "it slept once, and is awake";
  signal(wire::frame_type::wake);
  EXPECT_EQ(requests.receive(), arrival::bytes);
  EXPECT_EQ(page.sleeps, 4U);
  EXPECT_FALSE(requests.is_within_frame()) << "wake is no part of the stream";
}

TEST_F(request_streams, is_woken_by_a_parent_that_sees_it_sleep) {
  std::thread other([this] {
    while (page.sleeps % 2 == 0) std::this_thread::yield();
    put(1);
    if (ring.publish()) signal(wire::frame_type::wake);
  });
  for (tasks all; all.empty(); all = here()) ASSERT_EQ(requests.receive(), arrival::bytes);
  other.join();
}

TEST_F(request_streams, ends_with_the_parent) {
  for (const std::uint32_t spin : {0U, 1'000'000U}) {
    page.spin_ns = spin;
    ::shutdown(parent.receive.fd, SHUT_WR);
    EXPECT_EQ(requests.receive(), arrival::end);
  }
}

TEST_F(request_streams, leaves_if_its_page_is_damaged) {
  page.frames_end = wire::request_ring_bytes + 1;
  EXPECT_EXIT(here(), ::testing::ExitedWithCode(125), "");
}

TEST_F(request_streams, gives_descriptors_in_order) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const unique_fd out(ends[0]), in(ends[1]);
  go_on_by_socket();
  const auto bytes = task(1);
  for (const int fd : ends) ASSERT_GT(wire::send_with_fds(parent.receive.fd, bytes, {&fd, 1}, 0), 0);
  tasks all = here();
  while (all.size() != 2) {
    ASSERT_EQ(requests.receive(), arrival::bytes);
    for (const std::uint64_t each : here()) all.push_back(each);
  }
  requests.return_descriptor(requests.take_descriptor());
  const unique_fd first = requests.take_descriptor(), second = requests.take_descriptor();
  ASSERT_EQ(::write(second.get(), "x", 1), 1);
  char read = 0;
  EXPECT_EQ(::read(first.get(), &read, 1), 1);
  EXPECT_EXIT(requests.take_descriptor(), ::testing::ExitedWithCode(125), "");
}

// ---- A worker that sleeps at the ring, woken by a futex.

class request_streams_at_the_ring : public request_streams {
 protected:
  request_streams_at_the_ring() : request_streams(true) {}
};

TEST_F(request_streams_at_the_ring, are_woken_without_the_socket) {
  std::thread other([this] {
    for (std::uint64_t id = 1; id != 100; ++id) {
      while (page.sleeps != 2 * id - 1) std::this_thread::yield();
      put(id);
      EXPECT_FALSE(ring.publish()) << "nothing needs to be sent";
    }
  });
  for (std::uint64_t id = 1; id != 100; ++id) {
    ASSERT_EQ(requests.receive(), arrival::bytes);
    EXPECT_EQ(here(), tasks{id});
  }
  other.join();
  EXPECT_EQ(page.sleeps_at_socket, 0U);
}

// The parent had shown frames, and saw only after the worker had run them that it slept. It woke the worker for
// nothing, and not again for the next frames, as that was still the same sleep: the worker was killed after two
// seconds. A test of forked copies found it once in 250 runs.
TEST_F(request_streams_at_the_ring, are_woken_again_in_a_sleep_in_which_they_were_woken_for_nothing) {
  ::alarm(20);
  request_stream sleeper(parent.worker_end.get(), page, 1h);
  const auto next = [&] {
    wire::frame in;
    return sleeper.next(in) ? in.header.task : 0;
  };
  page.sleeps = 1;  // of the sleep to come, as the parent sees it
  show(1);
  EXPECT_EQ(next(), 1U);
  std::atomic<pid_t> thread{0};
  std::thread worker([&] {
    thread = ::gettid();
    EXPECT_EQ(sleeper.receive(), arrival::bytes);
  });
  const auto is_asleep = [&] {
    std::ifstream stat("/proc/self/task/" + std::to_string(thread) + "/syscall");
    int call = 0;
    return thread != 0 && (stat >> call) && call == SYS_futex;
  };
  while (!is_asleep()) std::this_thread::yield();
  put(2);
  EXPECT_FALSE(ring.publish());
  worker.join();
  EXPECT_EQ(next(), 2U);
  ::alarm(0);
}

TEST_F(request_streams_at_the_ring, wait_no_longer_than_they_are_told) {
  requests.wait_at_most(1ms);
  EXPECT_EQ(requests.receive(), arrival::nothing);
  EXPECT_EQ(page.sleeps, 2U) << "it slept once, and is awake";
}

TEST_F(request_streams_at_the_ring, wait_at_the_socket_for_what_comes_there) {
  requests.wait_at_most(1ms);
  go_on_by_socket();
  EXPECT_EQ(here(), tasks{});
  EXPECT_EQ(requests.receive(), arrival::nothing);
  send(task(1));
  EXPECT_EQ(requests.receive(), arrival::bytes);
  EXPECT_EQ(here(), tasks{1});
  signal(wire::frame_type::by_ring);
  EXPECT_EQ(requests.receive(), arrival::bytes);
  EXPECT_EQ(here(), tasks{});
  show(2);
  EXPECT_EQ(requests.receive(), arrival::bytes);
  EXPECT_EQ(here(), tasks{2});
}

// Nothing wakes it then: it has to look by itself, and to see the end behind what was sent before.
TEST_F(request_streams_at_the_ring, end_with_the_parent) {
  request_stream looks_often(parent.worker_end.get(), page, 1ms);
  send(task(1));
  ::shutdown(parent.receive.fd, SHUT_WR);
  EXPECT_EQ(looks_often.receive(), arrival::end);
}

TEST_F(request_streams_at_the_ring, sleep_at_the_socket_where_a_futex_is_forbidden) {
  const auto without_futex = [this] {
    if (!loop::deny_system_call(SYS_futex, EPERM)) ::_exit(0);
    requests.wait_at_most(1ms);
    bool right = requests.receive() == arrival::nothing && page.sleeps_at_socket == 1;
    signal(wire::frame_type::wake);
    right = right && requests.receive() == arrival::bytes && page.sleeps == 6;
    ::_exit(right ? 0 : 1);
  };
  EXPECT_EXIT(without_futex(), ::testing::ExitedWithCode(0), "");
}

TEST_F(request_streams_at_the_ring, are_woken_by_the_socket_by_a_parent_to_which_a_futex_is_forbidden) {
  const auto without_futex = [this] {
    if (!loop::deny_system_call(SYS_futex, EPERM)) ::_exit(0);
    page.sleeps = 1;
    put(1);
    const bool by_socket = ring.publish();
    pool::worker_channel later(2);
    ::_exit(by_socket && later.control.page().wakes_by_futex == 0 ? 0 : 1);
  };
  EXPECT_EXIT(without_futex(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace shmpool::worker
