// Messages that nobody should send. Whatever a worker writes, reading it ends with a value or with protocol_violation:
// no crash, no giant allocation, no memory that was not attached. Meant to be run under the sanitizers too.
#include "support/round_trip.hpp"

#include <shmpool/error.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <system_error>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

namespace {

using shmpool::array;
using shmpool::make_array;
using shmpool::detail::access;
using shmpool::detail::attachment;
using shmpool::detail::direction;
using shmpool::detail::packer;
using shmpool::detail::unpacker;
using shmpool::testing::inline_limit;
using shmpool::testing::memory_source;
using shmpool::testing::message;
using shmpool::testing::pack_value;
using shmpool::testing::unpack_value;
using shmpool::testing::value_or_violation;

struct point {
  double x, y;
};

using everything =
    std::tuple<std::map<std::string, point>, std::vector<std::string>, std::vector<point>, std::optional<std::string>,
               std::variant<int, std::string, array<double, 2>>, std::unordered_map<int, std::vector<std::string>>,
               std::shared_ptr<std::string>, std::shared_ptr<std::vector<int>>, std::unique_ptr<point>,
               array<const float, 3>, std::vector<array<int>>, std::vector<bool>, std::list<std::monostate>,
               std::vector<std::error_code>, std::optional<std::error_condition>>;

everything sample() {
  everything value;
  auto& [named, texts, points, option, variant, table, text, numbers, unique, cube, arrays, bits, nothings, codes,
         condition] = value;
  named = {{"a", {1, 2}}, {"b", {3, 4}}};
  texts = {"x", "yy", std::string(200, 'z')};
  points.resize(20);
  option = "option";
  variant = make_array<double>(4, 4, 1.0);
  table = {{1, {"p", "q"}}};
  text = std::make_shared<std::string>("shared");
  numbers = std::make_shared<std::vector<int>>(3);
  unique = std::make_unique<point>();
  cube = make_array<float>(2, 3, 4, 2.0f);
  arrays = {make_array<int>(5, shmpool::fill(1)), make_array<int>(50, shmpool::fill(1))};
  bits = {true, false, true};
  nothings.resize(5);
  codes = {std::make_error_code(std::errc::io_error), std::error_code(4, std::system_category()),
           shmpool::make_error_code(shmpool::errc::queue_full)};
  condition = std::make_error_condition(std::errc::timed_out);
  return value;
}

// Reads the message and touches what came out of it.
void read_and_use(const message& from) {
  auto value = unpack_value<everything>(from);
  double sum = 0;
  for (float x : std::get<array<const float, 3>>(value)) sum += static_cast<double>(x);
  for (auto& a : std::get<std::vector<array<int>>>(value)) {
    for (int x : a) sum += x;
  }
  if (auto& s = std::get<std::shared_ptr<std::vector<int>>>(value)) sum += static_cast<double>(s->size());
  if (auto& s = std::get<std::shared_ptr<std::string>>(value)) sum += static_cast<double>(s->size());
  // A category that is none would be seen here.
  for (auto& code : std::get<std::vector<std::error_code>>(value)) sum += static_cast<double>(code.message().size());
  if (auto& c = std::get<std::optional<std::error_condition>>(value)) sum += static_cast<double>(c->message().size());
  volatile double sink = sum;
  (void)sink;
}

TEST(hostile_messages, truncated_anywhere) {
  memory_source source;
  const auto whole = pack_value(source, sample(), direction::result);
  read_and_use(whole);
  for (std::size_t size = 0; size < whole.bytes.size(); ++size) {
    message cut{{whole.bytes.begin(), whole.bytes.begin() + static_cast<std::ptrdiff_t>(size)}, whole.attachments};
    EXPECT_THROW(read_and_use(cut), std::system_error) << size;
  }
}

TEST(hostile_messages, attachments_missing) {
  memory_source source;
  auto whole = pack_value(source, sample(), direction::result);
  ASSERT_GE(whole.attachments.size(), 4u);
  while (!whole.attachments.empty()) {
    whole.attachments.pop_back();
    EXPECT_THROW(read_and_use(whole), std::system_error);
  }
}

TEST(hostile_messages, bits_flipped) {
  memory_source source;
  const auto whole = pack_value(source, sample(), direction::result);
  std::mt19937 random(20240517);
  for (int i = 0; i < 20'000; ++i) {
    message bad = whole;
    for (int flips = 1 + static_cast<int>(random() % 4); flips > 0; --flips) {
      bad.bytes[random() % bad.bytes.size()] ^= static_cast<std::byte>(1u << (random() % 8));
    }
    EXPECT_TRUE(value_or_violation([&] { read_and_use(bad); })) << i;
  }
}

TEST(hostile_messages, bytes_replaced_by_extremes) {
  memory_source source;
  const auto whole = pack_value(source, sample(), direction::result);
  for (std::size_t at = 0; at < whole.bytes.size(); ++at) {
    for (int width : {1, 4, 8}) {
      for (int fill : {0x00, 0x7f, 0x80, 0xff}) {
        message bad = whole;
        for (std::size_t i = at; i < at + static_cast<std::size_t>(width) && i < bad.bytes.size(); ++i) {
          bad.bytes[i] = static_cast<std::byte>(fill);
        }
        EXPECT_TRUE(value_or_violation([&] { read_and_use(bad); })) << at << ' ' << width << ' ' << fill;
      }
    }
  }
}

TEST(hostile_messages, noise) {
  memory_source source;
  const auto attachments = pack_value(source, sample(), direction::result).attachments;
  std::mt19937 random(4711);
  for (int i = 0; i < 5'000; ++i) {
    message noise{std::vector<std::byte>(random() % 300), attachments};
    for (auto& byte : noise.bytes) byte = static_cast<std::byte>(random() % 4 == 0 ? random() : 0);
    EXPECT_TRUE(value_or_violation([&] { read_and_use(noise); })) << i;
  }
}

/// A message made by hand.
class by_hand {
 public:
  template <class T>
  by_hand& operator<<(T value) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    message_.bytes.insert(message_.bytes.end(), bytes, bytes + sizeof value);
    return *this;
  }
  by_hand& attach(shmpool::shm_handle handle, std::uint64_t offset, std::uint64_t length, access mode) {
    message_.attachments.push_back({std::move(handle), offset, length, mode});
    return *this;
  }
  operator const message&() const { return message_; }

 private:
  message message_;
};

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

template <class E, std::size_t Rank = 1>
bool refused(const message& bad) {
  try {
    unpacker from(bad.bytes, bad.attachments);
    shmpool::detail::result_codec<array<E, Rank>>::get(from);
    return false;
  } catch (const std::system_error& error) {
    return error.code() == shmpool::errc::protocol_violation;
  }
}

by_hand header(u8 where, u8 rank, u32 element_size) {
  by_hand m;
  m << where << rank << u16{0} << element_size;
  return m;
}

TEST(hostile_messages, array_headers_that_are_wrong) {
  EXPECT_FALSE(refused<int>(header(0, 1, 4) << u64{0}));
  EXPECT_TRUE(refused<int>(header(0, 1, 4) << u64{1}));            // empty, with an element
  EXPECT_TRUE(refused<int>(header(1, 1, 4) << u64{0}));            // in the message, without
  EXPECT_TRUE(refused<int>(header(2, 1, 4) << u64{0}));            // in a segment, without
  EXPECT_TRUE(refused<int>(header(3, 1, 4) << u64{0}));            // unknown place
  EXPECT_TRUE(refused<int>(header(0, 2, 4) << u64{0} << u64{0}));  // other rank
  EXPECT_TRUE(refused<int>(header(0, 1, 8) << u64{0}));            // other element
  EXPECT_TRUE(refused<int>(by_hand{} << u8{0} << u8{1} << u16{1} << u32{4} << u64{0}));
  EXPECT_TRUE(refused<int>(header(1, 1, 4) << u64{2} << 1));  // one of two
  EXPECT_TRUE(refused<int>(header(1, 1, 4) << u64{1} << 1 << u8{0}));
}

TEST(hostile_messages, extents_that_overflow) {
  const u64 huge = u64{1} << 62;
  EXPECT_TRUE(refused<int>(header(1, 1, 4) << huge << 1));
  EXPECT_TRUE((refused<int, 2>(header(1, 2, 4) << (u64{1} << 31) << (u64{1} << 31) << 1)));
  EXPECT_TRUE((refused<int, 2>(header(1, 2, 4) << (huge + 1) << u64{4} << 1 << 1 << 1 << 1)));  // wraps to 16 bytes
  EXPECT_TRUE((refused<int, 3>(header(1, 3, 4) << ~u64{0} << ~u64{0} << u64{1} << 1)));
}

by_hand in_segment(u64 extent, u32 index, u64 offset) {
  return header(2, 1, 4) << extent << index << u32{0} << offset;
}

TEST(hostile_messages, segment_references_that_reach_outside) {
  auto memory = shmpool::testing::memory_segment::make(256, 64);
  EXPECT_FALSE(refused<int>(in_segment(10, 0, 24).attach(memory, 64, 64, access::own)));
  EXPECT_TRUE(refused<int>(in_segment(11, 0, 24).attach(memory, 64, 64, access::own)));
  EXPECT_TRUE(refused<int>(in_segment(10, 1, 0).attach(memory, 64, 64, access::own)));
  EXPECT_TRUE(refused<int>(in_segment(1, 0, ~u64{0} - 3).attach(memory, 64, 64, access::own)));
  EXPECT_TRUE(refused<int>(in_segment(1, 0, 2).attach(memory, 64, 64, access::own)));   // not aligned
  EXPECT_TRUE(refused<int>(in_segment(1, 0, 0).attach(memory, 200, 64, access::own)));  // range outside
  EXPECT_TRUE(refused<int>(in_segment(1, 0, 0).attach(memory, ~u64{0}, 64, access::own)));
  EXPECT_TRUE(refused<int>(in_segment(1, 0, 0).attach({}, 0, 64, access::own)));  // no segment
  EXPECT_TRUE(refused<int>(header(2, 1, 4) << u64{1} << u32{0} << u32{1} << u64{0}));
}

TEST(hostile_messages, memory_lent_for_reading_is_not_mutable) {
  auto memory = shmpool::testing::memory_segment::make(256, 64);
  EXPECT_TRUE(refused<int>(in_segment(1, 0, 0).attach(memory, 0, 64, access::read)));
  EXPECT_FALSE(refused<const int>(in_segment(1, 0, 0).attach(memory, 0, 64, access::read)));
  EXPECT_FALSE(refused<int>(in_segment(1, 0, 0).attach(memory, 0, 64, access::write)));
  EXPECT_TRUE(refused<const int>(in_segment(1, 0, 0).attach(memory, 0, 64, access::lease)));
  EXPECT_TRUE(refused<const int>(in_segment(1, 0, 0).attach(memory, 0, 64, access{0})));
}

TEST(hostile_messages, counts_that_the_message_cannot_hold) {
  for (u64 count : {u64{9}, u64{1} << 20, u64{1} << 40, ~u64{0}}) {
    by_hand bad;
    bad << count << u64{0};
    EXPECT_THROW(unpack_value<std::vector<std::string>>(bad), std::system_error) << count;
    EXPECT_THROW((unpack_value<std::unordered_map<int, int>>(bad)), std::system_error) << count;
    EXPECT_THROW(unpack_value<std::list<std::monostate>>(bad), std::system_error) << count;
    EXPECT_THROW(unpack_value<std::string>(bad), std::system_error) << count;
    EXPECT_THROW(unpack_value<std::vector<bool>>(bad), std::system_error) << count;
  }
  // Each count alone would fit; together they ask for more work than the message is long.
  by_hand nested;
  nested << u64{20};
  for (int i = 0; i < 20; ++i) nested << u64{100};
  EXPECT_THROW(unpack_value<std::vector<std::vector<std::monostate>>>(nested), std::system_error);
}

TEST(hostile_messages, shared_pointer_to_another_type) {
  // The string is number 1; the second pointer claims to be the same object.
  by_hand bad;
  bad << u32{0x8000'0001} << u64{1} << u8{1} << 'x' << u32{1};
  using pointers = std::pair<std::shared_ptr<std::string>, std::shared_ptr<std::vector<std::string>>>;
  EXPECT_THROW(unpack_value<pointers>(bad), std::system_error);
}

struct node {
  std::unique_ptr<node> next;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(next);
  }
};

TEST(hostile_messages, nesting_without_end) {
  by_hand bad;
  for (int i = 0; i < 1'000'000; ++i) bad << u8{1};
  EXPECT_THROW(unpack_value<std::unique_ptr<node>>(bad), std::system_error);
}

TEST(hostile_messages, truth_values_that_are_neither) {
  EXPECT_THROW(unpack_value<bool>(by_hand{} << u8{2}), std::system_error);
  EXPECT_THROW((unpack_value<std::tuple<bool, std::string>>(by_hand{} << u8{255})), std::system_error);
}

}  // namespace
