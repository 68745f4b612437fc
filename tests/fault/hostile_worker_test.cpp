// A worker whose memory is damaged, or whose task writes where it should not: whatever it says on its socket or leaves
// in its control memory costs its own tasks, and nobody else.
#include "api/pool_fixture.hpp"
#include "fault/hostile.hpp"

#include "support/pending_result.hpp"
#include "support/processes.hpp"
#include "wire/control_page.hpp"
#include "wire/frame.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
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

/// Says one wrong thing; `lent` is the id of the segment that the task was given.
struct lie {
  const char* name;
  void (*tell)(std::uint64_t lent);
  bool plausible = false;  ///< it is found out only by what follows, and the task may end with what was said
};

const lie lies[] = {
    {"garbage", [](std::uint64_t) { say(std::vector<char>(4096, '\x5a').data(), 4096); }},
    {"one_byte_of_garbage_and_what_follows", [](std::uint64_t) { say("x", 1); }},
    {"another_version",
     [](std::uint64_t) {
       auto header = answer(wire::frame_type::value);
       header.version = 77;
       say_raw(header);
     }},
    {"a_body_that_is_too_large",
     [](std::uint64_t) {
       auto header = answer(wire::frame_type::value);
       header.body = wire::max_body + 1;
       say_raw(header);
     }},
    {"more_segments_than_there_can_be",
     [](std::uint64_t) {
       auto header = answer(wire::frame_type::value);
       header.segments = wire::max_segments + 1;
       say_raw(header);
     }},
    {"no_such_type", [](std::uint64_t) { say(answer(static_cast<wire::frame_type>(200))); }},
    {"hello_from_below", [](std::uint64_t) { say(answer(wire::frame_type::hello), {}, 16); }},
    {"a_task_for_the_parent", [](std::uint64_t) { say(answer(wire::frame_type::task), {}, 16); }},
    {"a_grant_for_the_parent", [](std::uint64_t) { say(answer(wire::frame_type::grant), {wire::segment_ref{}}); }},
    {"ready_again", [](std::uint64_t) { say(answer(wire::frame_type::ready)); }},
    {"a_failed_initializer", [](std::uint64_t) { say(answer(wire::frame_type::init_failed), {}, 16); }},
    {"a_result_of_another_task",
     [](std::uint64_t) {
       auto header = answer(wire::frame_type::value);
       header.task += 1;
       say(header, {}, 8);
     }},
    {"a_result_of_no_task",
     [](std::uint64_t) {
       auto header = answer(wire::frame_type::value);
       header.task = 0;
       say(header, {}, 8);
     }},
    {"a_slot_that_does_not_exist",
     [](std::uint64_t) {
       auto header = answer(wire::frame_type::value);
       header.slot = 60'000;
       say(header, {}, 8);
     }},
    {"a_result_in_a_segment_of_nobody",
     [](std::uint64_t) { say(answer(wire::frame_type::value), {result_in(~std::uint64_t{0}, 0, 8)}, 8); }},
    {"a_result_beyond_what_was_lent",
     [](std::uint64_t lent) { say(answer(wire::frame_type::value), {result_in(lent, 1 << 30, 8)}, 8); }},
    {"a_result_longer_than_what_was_lent",
     [](std::uint64_t lent) { say(answer(wire::frame_type::value), {result_in(lent, 0, std::uint64_t{1} << 40)}, 8); }},
    {"a_result_whose_end_overflows",
     [](std::uint64_t lent) { say(answer(wire::frame_type::value), {result_in(lent, 8, ~std::uint64_t{0} - 4)}, 8); }},
    {"keeping_a_segment_of_nobody",
     [](std::uint64_t) {
       wire::segment_ref ref;
       ref.id = 12345678;
       ref.flags = wire::flag_kept;
       say(answer(wire::frame_type::value), {ref}, 8);
     }},
    {"having_made_a_segment_of_nobody",
     [](std::uint64_t) {
       wire::segment_ref ref;
       ref.id = 12345678;
       ref.flags = wire::flag_created;
       say(answer(wire::frame_type::value), {ref}, 8);
     }},
    {"an_exception_that_is_none", [](std::uint64_t) { say(answer(wire::frame_type::error), {}, 64); }},
    {"an_empty_exception", [](std::uint64_t) { say(answer(wire::frame_type::error)); }, true},
    {"memory_for_no_task",
     [](std::uint64_t) {
       auto header = answer(wire::frame_type::need);
       header.task = 0;
       header.value = 4096;
       say(header);
     }},
    {"a_descriptor_of_a_segment_of_nobody",
     [](std::uint64_t) {
       auto header = answer(wire::frame_type::open);
       header.value = 12345678;
       say(header);
     }},
    {"a_descriptor_for_no_task",
     [](std::uint64_t lent) {
       auto header = answer(wire::frame_type::open);
       header.task = 0;
       header.value = lent;
       say(header);
     }},
    {"descriptors_without_reading_the_answers",
     [](std::uint64_t lent) {
       auto header = answer(wire::frame_type::open);
       header.value = lent;
       std::vector<std::byte> both;  // at once, or the first may be answered before the second is read
       for (int i = 0; i != 2; ++i) wire::append_frame(both, header, {}, {});
       say(both.data(), both.size());
     }},
    {"memory_for_another_task",
     [](std::uint64_t) {
       auto header = answer(wire::frame_type::need);
       header.task += 1;
       say(header);
     }},
    {"memory_without_end",
     [](std::uint64_t) {
       auto header = answer(wire::frame_type::need);
       header.value = ~std::uint64_t{0} - 3;
       say(header);
     },
     true},
    {"half_a_segment_released", [](std::uint64_t) { say(answer(wire::frame_type::released), {}, 7); }},
    {"a_value_that_is_none", [](std::uint64_t) { say(answer(wire::frame_type::value), {}, 3); }},
    // The next task's reply was thought to have been read: it was left in the ring, and never looked for.
    {"a_longer_reply_than_the_ones_that_follow", [](std::uint64_t) { say(answer(wire::frame_type::value), {}, 1000); },
     true},
    {"half_a_frame_before_it_dies",
     [](std::uint64_t) {
       auto header = answer(wire::frame_type::value);
       header.body = wire::max_body;
       say_raw(header);
       ::_exit(0);
     }},
    {"nonsense_in_its_control_memory_before_it_dies",
     [](std::uint64_t) {
       wire::control_page& page = *own_control_page();
       std::memset(static_cast<void*>(&page), 0xff, sizeof page);
       ::_exit(0);
     }},
    {"a_ring_that_ends_within_a_frame",
     [](std::uint64_t) {
       wire::control_page& page = *own_control_page();
       page.reply_end += 31;
       for (;;) ::pause();
     },
     true},
    {"a_ring_that_is_longer_than_it_can_be",
     [](std::uint64_t) { own_control_page()->reply_end += std::uint64_t{1} << 40; }, true},
    {"a_ring_that_has_no_beginning", [](std::uint64_t) { own_control_page()->reply_begin = ~std::uint64_t{0}; }, true},
    {"replies_taken_that_nobody_has_taken",
     [](std::uint64_t) {
       wire::control_page& page = *own_control_page();
       page.reply_taken = page.reply_end + 64;
     },
     true},
    {"that_it_is_polled", [](std::uint64_t) { own_control_page()->parent_sleeps = 0; }, true},
    {"frames_that_nobody_has_sent",
     [](std::uint64_t) {
       own_control_page()->frames_end += 1 << 20;
       own_control_page()->spin_ns = 4'000'000'000;
     },
     true},
    {"a_skip_beyond_what_was_taken",
     [](std::uint64_t) {
       wire::frame_header header;
       header.type = wire::frame_type::skipped;
       header.value = ~std::uint64_t{0};
       say(header);
     }},
    {"a_skip_backwards",
     [](std::uint64_t) {
       wire::frame_header header;
       header.type = wire::frame_type::skipped;
       say(header);
     },
     true},
    {"replies_that_it_has_not_given_in_its_control_memory",
     [](std::uint64_t) {
       wire::control_page& page = *own_control_page();
       std::memset(page.reply_ring, 0x77, sizeof page.reply_ring);
       page.reply_end += wire::reply_ring_bytes / 2;
       ::_exit(0);
     }},
};

void tell(std::uint64_t which, std::uint64_t id, array<const int>) {
  lies[which].tell(id);
}

int add(int a, int b) {
  return a + b;
}

/// What a short task does: notes that it ran, and the victim speaks garbage before it returns as if nothing had
/// happened.
int note(const std::string& log, int number, int victim) {
  const int fd = ::open(log.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  [[maybe_unused]] auto written = ::write(fd, &number, sizeof number);
  ::close(fd);
  if (number == victim) say("garbage that is longer than a header of a frame is", 40);
  return 2 * number;
}

// ---- The test's side.

class hostile_worker : public ::testing::TestWithParam<std::size_t> {};

/// With a parent that polls, the task's own reply can overtake what it said on the socket.
asio::awaitable<void> lie_to(std::size_t which, std::chrono::microseconds spin) {
  auto chosen = options();
  chosen.workers = 1;
  chosen.spin = spin;
  chosen.cancel_grace = 20ms;
  const bool plausible = lies[which].plausible || spin != 0us;
  chosen.max_shm_bytes = 64 * 1024 * 1024;
  shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
  auto values = pool.make_array<int>(100'000, shmpool::fill(7));
  const std::uint64_t id = values.handle().get()->id();
  for (int i = 0; i != 2; ++i) {
    pending_result<void> told;
    // One that says that it is polled keeps its reply to itself.
    pool.submit(shmpool::task_options{.timeout = 500ms}, tell, std::uint64_t{which}, id, values, told.handler());
    co_await told.ended();
    const auto code = code_of(told.error());
    EXPECT_TRUE(plausible || code == errc::protocol_violation || code == errc::worker_lost) << text_of(told.error());
    // If the lie has ended its task, the next one can be with that worker when it is found out; and a few more if their
    // replies are not taken from the socket.
    bool right = false;
    for (int tries = spin == 0us ? 2 : 20; !right && tries != 0; --tries) {
      pending_result<int> next;
      pool.submit(add, 40, 2, next.handler());
      co_await next.ended();
      right = next.succeeded() && next.value() == 42;
      EXPECT_TRUE(next.succeeded() || code_of(next.error()) == errc::protocol_violation ||
                  code_of(next.error()) == errc::worker_lost)
          << text_of(next.error());
    }
    EXPECT_TRUE(right);
  }
  EXPECT_EQ(values[0], 7);
  EXPECT_EQ(values[99'999], 7);
  co_await pool.shutdown();
  EXPECT_EQ(pool.stats().workers, 0u);
}

TEST_P(hostile_worker, loses_its_own_task_and_the_pool_goes_on) {
  run(lie_to(GetParam(), 0us));
}

TEST_P(hostile_worker, that_is_polled_loses_its_own_task_and_the_pool_goes_on) {
  run(lie_to(GetParam(), 1ms));
}

INSTANTIATE_TEST_SUITE_P(says, hostile_worker, ::testing::Range<std::size_t>(0, std::size(lies)),
                         [](const auto& instance) { return std::string(lies[instance.param].name); });

/// Of many tasks one is a liar. Returns how many were handed over at once.
asio::awaitable<std::size_t> lie_among_many() {
  auto chosen = options();
  chosen.workers = 1;
  shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
  char log[] = "/tmp/shmpool_test_XXXXXX";
  const int file = ::mkstemp(log);
  // So that the pool knows that they are short.
  for (int i = 0; i != 50; ++i) co_await pool.submit(note, std::string(log), -1, -2);
  std::deque<pending_result<int>> results(64);
  for (int i = 0; i != 64; ++i)
    pool.submit(note, std::string(log), i, 5, results[static_cast<std::size_t>(i)].handler());
  const std::size_t at_once = pool.stats().assigned;
  int failed = 0;
  for (int i = 0; i != 64; ++i) {
    auto& each = results[static_cast<std::size_t>(i)];
    co_await each.ended();
    if (each.succeeded()) {
      EXPECT_EQ(each.value(), 2 * i);
    } else {
      EXPECT_EQ(code_of(each.error()), errc::protocol_violation) << text_of(each.error());
      ++failed;
    }
  }
  EXPECT_GE(failed, 1);
  std::map<int, int> runs;
  ::lseek(file, 0, SEEK_SET);
  for (int number; ::read(file, &number, sizeof number) == sizeof number;) ++runs[number];
  runs.erase(-1);
  for (int i = 0; i != 64; ++i) {
    if (results[static_cast<std::size_t>(i)].succeeded()) {
      EXPECT_EQ(runs[i], 1) << "task " << i;
    }
  }
  for (const auto& [number, times] : runs) EXPECT_LE(times, 1) << "task " << number;
  ::close(file);
  ::unlink(log);
  co_return at_once;
}

TEST(hostile_worker_with_many_tasks, runs_none_of_them_twice) {
  // A task that was interrupted while it ran looks like a long one, behind which nothing is handed over.
  std::size_t most = 0;
  for (int tries = 0; most <= 10 && tries != 20; ++tries) most = std::max(most, run(lie_among_many()));
  EXPECT_GT(most, 10u);
}

}  // namespace
