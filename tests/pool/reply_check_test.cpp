// What a frame of a worker may say, table by table. Random worlds of the same are the fuzzer's, see
// fuzz/replies_target.cpp.
#include "pool/reply_check.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <vector>

namespace shmpool::pool {
namespace {

using wire::frame_type;

/// A frame with these segments, as a reader would have it.
struct made_frame {
  explicit made_frame(frame_type type, std::vector<wire::segment_ref> of = {}) : refs(std::move(of)) {
    in.header.type = type;
    in.header.segments = static_cast<std::uint32_t>(refs.size());
    in.segment_bytes = std::as_bytes(std::span(refs));
  }
  std::vector<wire::segment_ref> refs;
  wire::frame in;
};

wire::segment_ref ref(std::uint64_t id, std::uint64_t offset, std::uint64_t length, std::uint8_t flags) {
  wire::segment_ref made;
  made.id = id;
  made.offset = offset;
  made.length = length;
  made.flags = flags;
  return made;
}

wire::segment_ref result(std::uint64_t id, std::uint64_t offset, std::uint64_t length) {
  return ref(id, offset, length, wire::flag_result);
}

holdings having(std::initializer_list<holding> all) {
  holdings made;
  for (const holding& each : all) made.add(each);
  made.settle();
  return made;
}

const char* check(frame_type type, const sender& from, std::uint64_t task = 0) {
  made_frame made(type);
  made.in.header.task = task;
  return check_frame(made.in, from);
}

constexpr sender fresh{};
constexpr sender idle{.ready = true};

TEST(reply_check, a_worker_is_ready_once) {
  EXPECT_EQ(check(frame_type::ready, fresh), nullptr);
  EXPECT_STREQ(check(frame_type::ready, idle), "second `ready` frame");
}

TEST(reply_check, a_worker_fails_to_start_before_all_else) {
  EXPECT_EQ(check(frame_type::init_failed, fresh), nullptr);
  EXPECT_STREQ(check(frame_type::init_failed, idle), "failed to start after it was ready");
  EXPECT_STREQ(check(frame_type::init_failed, {.any_started = true}), "failed to start after it had begun a task");
}

TEST(reply_check, a_result_is_of_the_task_in_its_slot) {
  for (const frame_type type : {frame_type::value, frame_type::error}) {
    EXPECT_EQ(check(type, {.ready = true, .in_slot = 7}, 7), nullptr);
    EXPECT_STREQ(check(type, {.ready = true, .in_slot = 8}, 7), "result of a task that it does not have");
    EXPECT_STREQ(check(type, {.ready = true, .in_slot = 0}, 0), "result of a task that it does not have")
        << "nothing is in the slot, and 0 is the number of no task";
  }
}

TEST(reply_check, a_task_asks_for_one_thing_at_a_time) {
  for (const frame_type type : {frame_type::need, frame_type::open}) {
    EXPECT_EQ(check(type, {.ready = true, .has_task = true}, 7), nullptr);
    EXPECT_NE(check(type, {.ready = true, .answer_waits = true, .has_task = true}, 7), nullptr);
    EXPECT_NE(check(type, {.ready = true, .has_task = false}, 7), nullptr);
  }
}

TEST(reply_check, an_initializer_asks_until_the_worker_is_ready) {
  EXPECT_EQ(check(frame_type::need, fresh), nullptr);
  EXPECT_NE(check(frame_type::need, idle), nullptr);
  EXPECT_NE(check(frame_type::need, {.answer_waits = true}), nullptr);
}

TEST(reply_check, a_worker_does_not_leave_a_task) {
  EXPECT_EQ(check(frame_type::leaving, idle), nullptr);
  EXPECT_NE(check(frame_type::leaving, {.ready = true, .any_started = true}), nullptr);
}

TEST(reply_check, whole_segments_are_released) {
  made_frame made(frame_type::released);
  std::array<std::byte, 17> ids{};
  made.in.body = std::span(ids).first(16);
  EXPECT_EQ(check_frame(made.in, idle), nullptr);
  made.in.body = ids;
  EXPECT_NE(check_frame(made.in, idle), nullptr);
}

TEST(reply_check, a_worker_does_not_speak_as_the_parent) {
  for (const frame_type type :
       {frame_type::hello, frame_type::function, frame_type::task, frame_type::grant, frame_type::refuse,
        frame_type::unmap, frame_type::leave, frame_type::segment, frame_type::skipped, static_cast<frame_type>(200)}) {
    EXPECT_STREQ(check(type, idle), "frame that only the parent sends");
  }
}

TEST(reply_check, an_account_names_what_the_worker_has) {
  const holdings has = having({{.segment = 5, .length = 64}, {.segment = 3, .length = 8}});
  EXPECT_EQ(check_account(made_frame(frame_type::value, {ref(3, 0, 0, wire::flag_kept)}).in, has), nullptr);
  EXPECT_NE(check_account(made_frame(frame_type::value, {ref(3, 0, 0, wire::flag_kept), ref(4, 0, 0, 0)}).in, has),
            nullptr);
  EXPECT_EQ(check_account(made_frame(frame_type::value, {result(4, 0, 8)}).in, has), nullptr)
      << "results are for check_result()";
}

TEST(reply_check, a_result_lies_within_what_the_worker_has) {
  const holdings has = having({{.segment = 5, .offset = 16, .length = 64, .created = true}});
  std::vector<const holding*> from;
  const auto allowed = [&](std::uint64_t offset, std::uint64_t length) {
    return check_result(made_frame(frame_type::value, {result(5, offset, length)}).in, has, from) == nullptr;
  };
  EXPECT_TRUE(allowed(16, 64));
  EXPECT_TRUE(allowed(79, 1));
  EXPECT_TRUE(allowed(80, 0));
  EXPECT_FALSE(allowed(15, 1));
  EXPECT_FALSE(allowed(16, 65));
  EXPECT_FALSE(allowed(80, 1));
  EXPECT_FALSE(allowed(81, 0));
  EXPECT_FALSE(allowed(~std::uint64_t{0}, 64)) << "the end is not computed, where it would wrap round";
  EXPECT_FALSE(allowed(64, ~std::uint64_t{0} - 32));
}

TEST(reply_check, a_result_is_in_a_file_that_is_there) {
  holdings has = having({{.segment = 5, .length = 64}});
  std::vector<const holding*> from;
  const made_frame made(frame_type::value, {result(5, 0, 64)});
  EXPECT_STREQ(check_result(made.in, has, from), "result in a file that it has not made");
  has.note_created(5);
  EXPECT_EQ(check_result(made.in, has, from), nullptr);
}

// Each look walked over all holdings of the segment: the parent stood still for six seconds when a task was lent 64,000
// rows of a matrix and returned them.
TEST(reply_check, of_any_holdings_one_that_covers_is_found_if_there_is_one) {
  std::minstd_rand random(7);
  const auto below = [&](unsigned bound) { return static_cast<std::uint64_t>(random() % bound); };
  for (int round = 0; round != 500; ++round) {
    std::vector<holding> all(1 + below(12));
    holdings has;
    for (std::uint32_t i = 0; i != all.size(); ++i) {
      all[i] = {.segment = below(3), .offset = below(16), .length = below(16), .writable = below(2) != 0, .source = i};
      has.add(all[i]);
    }
    has.settle();
    for (int look = 0; look != 100; ++look) {
      const wire::segment_ref range = result(below(3), below(20), below(20));
      const auto covers = [&](const holding& each) {
        return each.segment == range.id && each.offset <= range.offset &&
               range.offset + range.length <= each.offset + each.length;
      };
      const bool any = std::any_of(all.begin(), all.end(), covers);
      const bool writable =
          std::any_of(all.begin(), all.end(), [&](const holding& each) { return each.writable && covers(each); });
      const holding* const found = has.cover(range);
      ASSERT_EQ(found != nullptr, any);
      if (!found) continue;
      EXPECT_TRUE(covers(all[found->source]));
      EXPECT_EQ(found->writable, writable);
    }
  }
}

TEST(reply_check, of_several_holdings_a_writable_one_counts) {
  const holdings has = having({{.segment = 5, .length = 64, .created = true, .source = 1},
                               {.segment = 4, .length = 64, .created = true, .source = 2},
                               {.segment = 5, .length = 32, .writable = true, .created = true, .source = 3},
                               {.segment = 5, .length = 64, .created = true, .source = 4}});
  std::vector<const holding*> from;
  ASSERT_EQ(
      check_result(made_frame(frame_type::value, {result(5, 0, 32), result(5, 0, 33), result(4, 1, 2)}).in, has, from),
      nullptr);
  ASSERT_EQ(from.size(), 3U);
  EXPECT_EQ(from[0]->source, 3U);
  EXPECT_EQ(from[1]->source, 1U) << "the writable one is too short";
  EXPECT_EQ(from[2]->source, 2U);
  EXPECT_TRUE(has.find(5).writable);
  EXPECT_FALSE(has.find(4).writable);
  EXPECT_EQ(has.find(6).any, nullptr);
}

}  // namespace
}  // namespace shmpool::pool
