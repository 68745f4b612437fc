// Frames survive any way a stream may cut them, and what is no frame is refused before it is believed.
#include "wire/frame.hpp"

#include <gtest/gtest.h>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace shmpool::wire {
namespace {

std::vector<std::byte> bytes_of(const std::string& text) {
  std::vector<std::byte> result(text.size());
  std::memcpy(result.data(), text.data(), text.size());
  return result;
}

frame_header header_of(frame_type type, std::uint64_t task) {
  frame_header header;
  header.type = type;
  header.task = task;
  header.value = ~task;
  header.slot = 7;
  return header;
}

void feed(frame_reader& reader, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto room = reader.prepare();
    const std::size_t size = std::min(room.size(), bytes.size());
    std::memcpy(room.data(), bytes.data(), size);
    reader.commit(size);
    bytes = bytes.subspan(size);
    ASSERT_GT(size, 0U);
  }
}

// Each piece of a large frame was copied with every later one: a string of 64 MiB took six seconds.
TEST(frame_readers, make_room_for_a_large_frame_a_few_times) {
  constexpr std::size_t large = std::size_t{32} << 20, piece = 64 * 1024;
  std::vector<std::byte> bytes;
  append_frame(bytes, header_of(frame_type::value, 42), {}, std::vector<std::byte>(large));
  frame_reader reader;
  const std::byte* buffer = nullptr;
  int moves = 0;
  for (std::size_t at = 0; at != bytes.size();) {
    const auto room = reader.prepare();
    const std::byte* const begin = room.data() - reader.pending();
    if (std::exchange(buffer, begin) != begin) ++moves;
    const std::size_t size = std::min({room.size(), piece, bytes.size() - at});
    std::memcpy(room.data(), bytes.data() + at, size);
    reader.commit(size);
    at += size;
    frame in;
    ASSERT_EQ(reader.next(in), at == bytes.size() ? frame_reader::status::frame : frame_reader::status::incomplete);
    EXPECT_LE(room.size() + at, 5 * at + 4 * piece) << "memory for bytes that have not come";
  }
  EXPECT_LE(moves, 16);
}

// There was no memory for one large result, and the stream of its worker was given up.
TEST(frame_readers, gives_up_a_body_that_there_is_no_memory_for_and_goes_on) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need address space without a limit";
#endif
  constexpr std::size_t large = std::size_t{64} << 20;
  const pid_t child = ::fork();
  if (child == 0) {
    std::vector<std::byte> start, next;
    segment_ref segment;
    segment.id = 5;
    frame_header header = header_of(frame_type::value, 42);
    append_frame(start, header, {&segment, 1}, std::vector<std::byte>(100));
    header.segments = 1;
    header.body = large;
    std::memcpy(start.data(), &header, sizeof header);
    append_frame(next, header_of(frame_type::error, 43), {}, bytes_of("what came next"));
    const std::vector<std::byte> body(100'000, std::byte{7});
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlimit tight{pages * 4096 + (std::size_t{8} << 20), RLIM_INFINITY};
    if (::setrlimit(RLIMIT_AS, &tight) != 0) ::_exit(1);
    frame_reader reader;
    frame in;
    const auto put = [&](std::span<const std::byte> bytes) {
      while (!bytes.empty()) {
        const auto room = reader.prepare();
        const std::size_t size = std::min(room.size(), bytes.size());
        std::memcpy(room.data(), bytes.data(), size);
        reader.commit(size);
        bytes = bytes.subspan(size);
        if (!bytes.empty() && reader.next(in) != frame_reader::status::incomplete) ::_exit(2);
      }
    };
    put(start);
    for (std::size_t left = large - 100; left != 0;) {
      const std::size_t size = std::min(left, body.size());
      left -= size;
      std::vector<std::byte> piece(body.begin(), body.begin() + static_cast<std::ptrdiff_t>(size));
      if (left == 0) piece.insert(piece.end(), next.begin(), next.end());  // the end and the next frame come in one
      if (left == 0) {
        const auto room = reader.prepare(piece.size());
        std::memcpy(room.data(), piece.data(), piece.size());
        reader.commit(piece.size());
      } else {
        put(piece);
        if (reader.next(in) != frame_reader::status::incomplete) ::_exit(3);
      }
    }
    if (reader.next(in) != frame_reader::status::frame || !in.is_cut() || !in.body.empty()) ::_exit(4);
    if (in.header.task != 42 || in.segment_count() != 1 || in.segment(0).id != 5) ::_exit(5);
    if (in.size() != sizeof(frame_header) + sizeof(segment_ref) + large) ::_exit(6);
    if (reader.next(in) != frame_reader::status::frame || in.is_cut() || in.header.task != 43) ::_exit(7);
    ::_exit(std::memcmp(in.body.data(), "what came next", in.body.size()) == 0 && reader.pending() == 0 ? 0 : 8);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(frame_readers, gives_back_what_was_appended) {
  segment_ref segment;
  segment.id = 5;
  segment.pool = 0x1234;
  segment.offset = 4096;
  segment.length = 100;
  segment.flags = flag_kept | flag_created;
  std::vector<std::byte> stream;
  append_frame(stream, header_of(frame_type::value, 42), {&segment, 1}, bytes_of("result"));

  frame_reader reader;
  feed(reader, stream);
  frame in;
  ASSERT_EQ(reader.next(in), frame_reader::status::frame);
  EXPECT_EQ(in.header.type, frame_type::value);
  EXPECT_EQ(in.header.task, 42U);
  EXPECT_EQ(in.header.value, ~std::uint64_t{42});
  EXPECT_EQ(in.header.slot, 7);
  ASSERT_EQ(in.segment_count(), 1U);
  EXPECT_EQ(in.segment(0).id, 5U);
  EXPECT_EQ(in.segment(0).pool, 0x1234U);
  EXPECT_EQ(in.segment(0).flags, flag_kept | flag_created);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(in.body.data()), in.body.size()), "result");
  EXPECT_EQ(reader.next(in), frame_reader::status::incomplete);
  EXPECT_EQ(reader.pending(), 0U);
}

TEST(frame_readers, does_not_care_where_the_stream_is_cut) {
  std::vector<std::byte> stream;
  std::mt19937 random(1);
  std::vector<std::size_t> sizes;
  for (std::uint64_t task = 1; task != 200; ++task) {
    sizes.push_back(task % 50 == 0 ? 300'000 : random() % 200);
    append_frame(stream, header_of(frame_type::task, task), std::vector<segment_ref>(task % 3),
                 std::vector<std::byte>(sizes.back(), static_cast<std::byte>(task)));
  }
  for (int round = 0; round != 20; ++round) {
    frame_reader reader;
    std::uint64_t expected = 1;
    std::span<const std::byte> left(stream);
    while (!left.empty()) {
      const auto room = reader.prepare();
      const std::size_t size = std::min({left.size(), room.size(), std::size_t{1 + random() % (1U << (round % 18))}});
      std::memcpy(room.data(), left.data(), size);
      reader.commit(size);
      left = left.subspan(size);
      frame in;
      while (reader.next(in) == frame_reader::status::frame) {
        ASSERT_EQ(in.header.task, expected);
        ASSERT_EQ(in.segment_count(), expected % 3);
        ASSERT_EQ(in.body.size(), sizes[expected - 1]);
        ASSERT_TRUE(std::ranges::all_of(in.body, [&](std::byte b) { return b == static_cast<std::byte>(expected); }));
        ++expected;
      }
    }
    ASSERT_EQ(expected, 200U);
  }
}

TEST(frame_readers, refuses_what_is_no_frame) {
  const auto refused = [](auto change) {
    std::vector<std::byte> stream;
    append_frame(stream, header_of(frame_type::value, 1), {}, {});
    frame_header header;
    std::memcpy(&header, stream.data(), sizeof header);
    change(header);
    std::memcpy(stream.data(), &header, sizeof header);
    frame_reader reader;
    feed(reader, stream);
    frame in;
    return reader.next(in) == frame_reader::status::malformed && *reader.why() != 0;
  };
  EXPECT_TRUE(refused([](frame_header& h) { h.magic ^= 1; }));
  EXPECT_TRUE(refused([](frame_header& h) { h.version = frame_version + 1; }));
  EXPECT_TRUE(refused([](frame_header& h) { h.body = max_body + 1; }));
  EXPECT_TRUE(refused([](frame_header& h) { h.segments = max_segments + 1; }));
  EXPECT_FALSE(refused([](frame_header&) {}));
}

TEST(frame_readers, does_not_allocate_for_bytes_that_have_not_arrived) {
  frame_header header = header_of(frame_type::value, 1);
  header.body = max_body;
  frame_reader reader;
  feed(reader, std::as_bytes(std::span(&header, 1)));
  frame in;
  ASSERT_EQ(reader.next(in), frame_reader::status::incomplete);
  EXPECT_LE(reader.prepare().size(), 1024U * 1024);
}

TEST(frame_readers, gives_the_buffer_of_a_huge_frame_back) {
  std::vector<std::byte> stream;
  append_frame(stream, header_of(frame_type::value, 1), {}, std::vector<std::byte>(8 * 1024 * 1024));
  frame_reader reader;
  feed(reader, stream);
  frame in;
  ASSERT_EQ(reader.next(in), frame_reader::status::frame);
  EXPECT_LE(reader.prepare().size(), 1024U * 1024);
}

}  // namespace
}  // namespace shmpool::wire
