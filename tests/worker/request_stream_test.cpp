// What the parent sends arrives in order with its descriptors, whether the worker polls for it or sleeps.
#include "worker/request_stream.hpp"

#include "pool/worker_channel.hpp"
#include "wire/fd_passing.hpp"

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <vector>

namespace shmpool::worker {
namespace {

class request_streams : public ::testing::Test {
 protected:
  using arrival = request_stream::arrival;

  request_streams() : parent(1), page(parent.control.page()), requests(parent.worker_end.get(), page) {}

  std::vector<std::byte> task(std::uint64_t id) {
    wire::frame_header header;
    header.type = wire::frame_type::task;
    header.task = id;
    std::vector<std::byte> bytes;
    wire::append_frame(bytes, header, {}, {});
    return bytes;
  }
  void send(const std::vector<std::byte>& bytes) {
    page.frames_end += bytes.size();
    ASSERT_EQ(::send(parent.receive.fd, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }
  std::vector<std::uint64_t> here() {
    std::vector<std::uint64_t> tasks;
    for (wire::frame in; requests.next(in);) tasks.push_back(in.header.task);
    return tasks;
  }

  pool::worker_channel parent;
  wire::control_page& page;
  request_stream requests;
};

using tasks = std::vector<std::uint64_t>;

TEST_F(request_streams, cuts_bytes_into_frames) {
  auto both = task(1);
  const auto second = task(2);
  both.insert(both.end(), second.begin(), second.begin() + 10);
  send(both);
  EXPECT_EQ(requests.receive(), arrival::bytes);
  EXPECT_EQ(here(), tasks{1});
  EXPECT_TRUE(requests.is_within_frame());
  send({second.begin() + 10, second.end()});
  EXPECT_EQ(requests.receive(), arrival::bytes);
  EXPECT_EQ(here(), tasks{2});
  EXPECT_FALSE(requests.is_within_frame());
}

TEST_F(request_streams, finds_what_was_announced_by_polling) {
  page.spin_ns = 1'000'000'000;
  // A socket that never blocks: what comes is found by polling or not at all.
  const timeval none{0, 1};
  ASSERT_EQ(::setsockopt(parent.worker_end.get(), SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none), 0);
  for (std::uint64_t id = 1; id != 100; ++id) {
    send(task(id));
    ASSERT_EQ(requests.receive(), arrival::bytes);
    EXPECT_EQ(here(), tasks{id});
  }
}

TEST_F(request_streams, sleeps_where_polling_finds_nothing) {
  page.spin_ns = 1000;
  page.frames_end = 32;  // announced, and never sent
  const timeval soon{0, 1000};
  ASSERT_EQ(::setsockopt(parent.worker_end.get(), SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon), 0);
  EXPECT_EQ(requests.receive(), arrival::nothing);
}

TEST_F(request_streams, ends_with_the_parent) {
  for (const std::uint32_t spin : {0U, 1'000'000U}) {
    page.spin_ns = spin;
    ::shutdown(parent.receive.fd, SHUT_WR);
    EXPECT_EQ(requests.receive(), arrival::end);
  }
}

TEST_F(request_streams, gives_descriptors_in_order) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const unique_fd out(ends[0]), in(ends[1]);
  const auto bytes = task(1);
  for (const int fd : ends) ASSERT_GT(wire::send_with_fds(parent.receive.fd, bytes, {&fd, 1}, 0), 0);
  while (here().empty()) ASSERT_EQ(requests.receive(), arrival::bytes);
  while (here().empty()) ASSERT_EQ(requests.receive(), arrival::bytes);
  requests.return_descriptor(requests.take_descriptor());
  const unique_fd first = requests.take_descriptor(), second = requests.take_descriptor();
  ASSERT_EQ(::write(second.get(), "x", 1), 1);
  char read = 0;
  EXPECT_EQ(::read(first.get(), &read, 1), 1);
  EXPECT_EXIT(requests.take_descriptor(), ::testing::ExitedWithCode(125), "");
}

}  // namespace
}  // namespace shmpool::worker
