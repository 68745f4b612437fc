// A worker that does not break the rules of the frames but those of the conversation: it does not read, asks without
// end, or leaves somebody behind who goes on talking.
#include "api/pool_fixture.hpp"
#include "fault/hostile.hpp"

#include "support/pending_result.hpp"
#include "wire/frame.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace {

using namespace shmpool::testing;
using namespace shmpool::testing::hostile;
using namespace std::chrono_literals;
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

wire::frame_header need(std::uint64_t bytes) {
  wire::frame_header header = answer(wire::frame_type::need);
  header.value = bytes;
  return header;
}

/// Will leave its replies where nobody looks.
int believe_to_be_polled(int value) {
  own_control_page()->parent_sleeps = 0;
  return value;
}

/// Asks for memory again and again without looking at the answers.
void ask_without_reading(int times) {
  std::vector<std::byte> bytes;
  for (int i = 0; i != 1000; ++i) wire::append_frame(bytes, need(1), {}, {});
  catch_up();
  const int socket = own_socket();
  for (int i = 0; i < times; i += 1000) {
    if (::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) ::_exit(0);
  }
}

/// Makes arrays, one after the other, until there is no more memory for them; says how many it got.
int make_until_refused(int most) {
  std::vector<array<char>> made;
  try {
    while (static_cast<int>(made.size()) != most) made.push_back(shmpool::make_array<char>(1));
  } catch (const std::system_error& error) {
    if (error.code() != errc::shm_exhausted) throw;
  }
  return static_cast<int>(made.size());
}

/// Dies, and leaves processes behind that have its socket and say what is in order for as long as somebody listens.
void leave_talkers_behind() {
  catch_up();
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

/// Says that it is done, and never is.
void end_early_and_stay_away() {
  say(answer(wire::frame_type::value));
  for (;;) ::pause();
}

/// Says that it has begun a day from now, and does not end.
void begin_tomorrow() {
  own_control_page()->slots[answer(wire::frame_type::value).slot].started_ns += std::uint64_t{86'400} * 1'000'000'000;
  for (;;) ::pause();
}

int own_pid() {
  return ::getpid();
}

/// Makes an array, and may say that its result is in 3,000 parts, all of them there.
array<int> in_many_parts(bool lie) {
  auto made = shmpool::make_array<int>(10'000, shmpool::fill(3));
  if (!lie) return made;
  struct {
    std::uint8_t where = 2, rank = 1;
    std::uint16_t reserved = 0;
    std::uint32_t element = sizeof(int);
    std::uint64_t extent = 10'000;
    std::uint32_t index = 0, reserved_too = 0;
    std::uint64_t offset = 0;
  } body;  // docs/wire-arrays.md
  wire::segment_ref created;
  created.id = made.handle().get()->id();
  created.flags = wire::flag_created;
  std::vector<wire::segment_ref> refs(3000, result_in(created.id, 0, 40'000));
  refs.push_back(created);
  std::vector<std::byte> bytes;
  wire::append_frame(bytes, answer(wire::frame_type::value), refs, std::as_bytes(std::span(&body, 1)));
  say(bytes.data(), bytes.size());
  ::_exit(0);
}

/// The error number of an attempt to cut off every memfd of the pool that the worker has, 0 if one could be; -1 if it
/// has none.
int shrink(array<int>&) {
  int result = -1;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    if (!std::filesystem::read_symlink(entry.path(), error).string().starts_with("/memfd:shmpool.")) continue;
    const int fd = std::stoi(entry.path().filename());
    if ((::fcntl(fd, F_GET_SEALS) & F_SEAL_GROW) == 0) continue;  // its control page, say
    if (::ftruncate(fd, 0) == 0) return 0;
    result = errno;
  }
  return result;
}

// ---- The test's side.

std::size_t own_memory() {
  std::ifstream statm("/proc/self/statm");
  std::size_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

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

// The task that a worker was given next was never begun and never ended, and its deadline, which counts from its start,
// never came.
TEST(worker_that_says_too_early_that_it_is_done, gives_back_what_it_does_not_begin) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, one_worker());
    co_await pool.submit(end_early_and_stay_away);
    EXPECT_EQ(co_await pool.submit(shmpool::task_options{.timeout = 10s}, add, 40, 2), 42);
    co_await pool.shutdown();
  }());
}

// Found by random harm. The end of a pool waited for ever for a worker that did not come round to reading that it
// should leave.
TEST(worker_that_says_too_early_that_it_is_done, does_not_hold_the_end_of_the_pool) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, one_worker());
    co_await pool.submit(end_early_and_stay_away);
    co_await pool.shutdown();
    EXPECT_EQ(pool.stats().workers, 0u);
  }());
}

// Found by random harm. A start in the future was taken for one just now, whenever the parent looked, so that the
// deadline was always one timeout away.
TEST(worker_that_lies_about_the_time, does_not_put_its_deadline_off) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, one_worker());
    pending_result<void> late;
    pool.submit(shmpool::task_options{.timeout = 50ms}, begin_tomorrow, late.handler());
    co_await late.ended();
    EXPECT_EQ(code_of(late.error()), errc::deadline_exceeded) << text_of(late.error());
    EXPECT_EQ(co_await pool.submit(add, 40, 2), 42);
    co_await pool.shutdown();
  }());
}

// The story of the tasks that are never begun, without malice: a worker that is stopped while it has nothing to do.
TEST(worker_that_is_stopped_while_idle, gives_back_what_it_does_not_begin) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, one_worker());
    const int stopped = co_await pool.submit(own_pid);
    ::kill(stopped, SIGSTOP);
    EXPECT_NE(co_await pool.submit(own_pid), stopped);
    co_await pool.shutdown();
  }());
}

// Each request was answered, and the answers piled up in the parent, with a segment for each: 200 bytes of the parent's
// memory, or a descriptor, for 32 bytes of the worker's.
TEST(worker_that_asks_and_does_not_read, is_stopped_before_the_answers_pile_up) {
  run([]() -> asio::awaitable<void> {
    auto chosen = one_worker();
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    EXPECT_EQ(co_await pool.submit(add, 40, 2), 42);
    const std::size_t before = own_memory();
    pending_result<void> asking;
    pool.submit(ask_without_reading, 500'000, asking.handler());
    co_await asking.ended();
    EXPECT_EQ(code_of(asking.error()), errc::protocol_violation) << text_of(asking.error());
    EXPECT_LT(pool.stats().peak_bytes, 64u * 1024 * 1024);
    EXPECT_LT(own_memory(), before + 32 * 1024 * 1024);
    EXPECT_EQ(co_await pool.submit(add, 40, 2), 42);
    co_await pool.shutdown();
    EXPECT_EQ(pool.stats().live_segments, 0u);
  }());
}

// A task could have as many segments as it asked for; each takes memory of the parent, and more than a frame has room
// for could not even be reported in the task's reply, which then was one that makes no sense.
TEST(task_that_asks_for_memory_without_end, is_refused_at_some_point) {
  run([]() -> asio::awaitable<void> {
    auto chosen = one_worker();
    chosen.inline_bytes = 0;  // or else the worker has memory of its own for what is small
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    const int got = co_await pool.submit(make_until_refused, 140'000);
    EXPECT_EQ(got, 131'072);
    EXPECT_EQ(co_await pool.submit(add, 40, 2), 42);
    co_await pool.shutdown();
    EXPECT_EQ(pool.stats().live_segments, 0u);
  }());
}

// The next task of the function was leased as many segments as the last one had used: the whole cache, for one lie.
TEST(result_in_more_parts_than_there_are, does_not_empty_the_cache) {
  run([]() -> asio::awaitable<void> {
    auto chosen = one_worker();
    chosen.arena_bytes = 0;  // each of the arrays below is a segment of its own in the cache
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    std::vector<array<int>> many;
    for (int i = 0; i != 200; ++i) many.push_back(pool.make_array<int>(10'000));
    EXPECT_EQ((co_await pool.submit(in_many_parts, true))[9'999], 3);
    many.clear();
    EXPECT_GE(pool.stats().cached_segments, 200u);
    pending_result<array<int>> next;
    pool.submit(in_many_parts, false, next.handler());
    EXPECT_TRUE(co_await until([&] { return pool.stats().assigned != 0 || next.done(); }));
    EXPECT_GE(pool.stats().cached_segments, 100u);
    co_await next.ended();
    EXPECT_EQ(next.value()[0], 3);
    co_await pool.shutdown();
  }());
}

// The task never ended.
TEST(worker_that_believes_to_be_polled, is_looked_at_in_the_end) {
  run([]() -> asio::awaitable<void> {
    auto chosen = one_worker();
    chosen.spin = 0us;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    EXPECT_EQ(co_await pool.submit(believe_to_be_polled, 7), 7);
    EXPECT_EQ(co_await pool.submit(add, 40, 2), 42);
    co_await pool.shutdown();
    EXPECT_EQ(pool.stats().workers_killed, 0u);
  }());
}

// A parent that reads an array whose file was cut off gets SIGBUS. Where it matters, backing::memfd makes it
// impossible.
TEST(worker_with_a_memfd, cannot_shrink_it) {
  run([]() -> asio::awaitable<void> {
    auto chosen = one_worker();
    chosen.backing = shmpool::backing::memfd;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    auto values = pool.make_array<int>(10'000, shmpool::fill(7));
    EXPECT_EQ(co_await pool.submit(shrink, values), EPERM);
    EXPECT_EQ(values[9'999], 7);
    co_await pool.shutdown();
  }());
}

/// Rings without end, with numbers of others, of nobody, and with what is no number.
void ring_without_end() {
  const int bell = own_bell();
  std::array<char, 64> bytes{};
  const auto until = std::chrono::steady_clock::now() + 300ms;
  for (unsigned i = 0; std::chrono::steady_clock::now() < until; ++i) {
    bytes[0] = static_cast<char>(i % 4);
    [[maybe_unused]] auto rung = ::write(bell, bytes.data(), i % 3 == 0 ? 1 + i % bytes.size() : 4);
    if (i % 1000 == 0) ::fcntl(bell, F_SETFL, i % 2000 == 0 ? O_NONBLOCK : O_NONBLOCK | O_DIRECT);
  }
}

TEST(worker_that_rings_without_end, costs_the_others_time_at_most) {
  run([]() -> asio::awaitable<void> {
    auto chosen = one_worker();
    chosen.workers = 3;
    shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
    pending_result<void> rings;
    pool.submit(ring_without_end, rings.handler());
    int rounds = 0;
    for (; !rings.done(); ++rounds) {
      pending_result<int> one, two;
      pool.submit(add, rounds, 1, one.handler());
      pool.submit(add, rounds, 2, two.handler());
      co_await one.ended();
      co_await two.ended();
      EXPECT_EQ(one.value(), rounds + 1);
      EXPECT_EQ(two.value(), rounds + 2);
    }
    EXPECT_GT(rounds, 0);
    EXPECT_TRUE(rings.succeeded());
    EXPECT_EQ(co_await pool.submit(add, 40, 2), 42);
    EXPECT_EQ(pool.stats().worker_deaths, 0U);
  }());
}

// What a dead worker had left in its socket was read to the end of the stream, which never came.
TEST(worker_that_leaves_processes_behind_which_talk_on, does_not_hold_the_parent) {
  for (const auto spin : {0us, 1000us}) {
    run([](std::chrono::microseconds how_long) -> asio::awaitable<void> {
      auto chosen = one_worker();
      chosen.spin = how_long;
      shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
      pending_result<void> left;
      pool.submit(leave_talkers_behind, left.handler());
      co_await left.ended();
      // A parent that polls may find that they say more than the worker has given before it hears of its death.
      if (how_long == 0us || code_of(left.error()) != errc::protocol_violation) {
        const auto lost = as_worker_lost(left.error());
        EXPECT_TRUE(lost && lost->exit_code() == 7) << text_of(left.error());
      }
      EXPECT_EQ(co_await pool.submit(add, 40, 2), 42);
      co_await pool.shutdown();
    }(spin));
  }
}

}  // namespace
