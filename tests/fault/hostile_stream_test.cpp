// A worker that does not break the rules of the frames but those of the conversation: it does not read, asks without end,
// or leaves somebody behind who goes on talking.
#include "api/pool_fixture.hpp"
#include "fault/hostile.hpp"

#include "support/pending_result.hpp"
#include "wire/frame.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

namespace {

using namespace shmpool::testing;
using namespace shmpool::testing::hostile;
using shmpool::array;
using shmpool::errc;
namespace wire = shmpool::wire;

// ---- The worker's side.

int add(int a, int b) {
  return a + b;
}

int first_of(array<const int> values) {
  return values[0];
}

/// Will hear of no task any more, and ends as if nothing had happened.
int stop_listening(int value) {
  ::shutdown(own_socket(), SHUT_RD);
  return value;
}

/// Dies, and leaves processes behind that have its socket and say what is in order for as long as somebody listens.
void leave_talkers_behind() {
  const int socket = own_socket();
  for (int i = 0; i != 16; ++i) {
    if (::fork() != 0) continue;
    std::vector<std::byte> bytes;
    wire::frame_header header;
    header.type = wire::frame_type::progress;
    header.task = ~std::uint64_t{0};
    for (int n = 0; n != 1000; ++n) wire::append_frame(bytes, header, {}, {});
    ::alarm(60);
    while (::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0) {
    }
    ::_exit(0);
  }
  ::_exit(7);
}

// ---- The test's side.

shmpool::pool_options one_worker() {
  auto chosen = options();
  chosen.workers = 1;
  return chosen;
}

// The parent's send fails with EPIPE, which says nothing about the worker: it is heard of when it has ended.
TEST(worker_that_has_stopped_listening, is_replaced_and_its_tasks_run_elsewhere) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, one_worker());
    EXPECT_EQ(co_await pool.submit(stop_listening, 1), 1);
    EXPECT_EQ(co_await pool.submit(add, 40, 2), 42);
    co_await pool.shutdown();
  }());
}

// The same where the frames have descriptors with them, which go another way.
TEST(worker_that_has_stopped_listening, is_replaced_when_it_is_sent_a_descriptor) {
  run([]() -> asio::awaitable<void> {
    auto chosen = one_worker();
    chosen.backing = shmpool::backing::memfd;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    auto values = pool.make_array<int>(10'000, shmpool::fill(7));
    EXPECT_EQ(co_await pool.submit(stop_listening, 1), 1);
    EXPECT_EQ(co_await pool.submit(first_of, values), 7);
    co_await pool.shutdown();
  }());
}

// What a dead worker had left in its socket was read to the end of the stream, which never came.
TEST(worker_that_leaves_processes_behind_which_talk_on, does_not_hold_the_parent) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, one_worker());
    pending_result<void> left;
    pool.submit(leave_talkers_behind, left.handler());
    co_await left.ended();
    const auto lost = as_worker_lost(left.error());
    EXPECT_TRUE(lost && lost->exit_code() == 7) << text_of(left.error());
    EXPECT_EQ(co_await pool.submit(add, 40, 2), 42);
    co_await pool.shutdown();
  }());
}

}  // namespace
