// Promises about exception records that a broken or hostile worker sends: refused or decoded, never a fault.
#include <shmpool/detail/codec/exception_codec.hpp>
#include <shmpool/error.hpp>
#include <shmpool/register_exception.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

struct registered_here : std::runtime_error {
  using std::runtime_error::runtime_error;
};
SHMPOOL_REGISTER_EXCEPTION(registered_here);

using shmpool::detail::decode_exception;
using shmpool::detail::encode_exception;
using bytes = std::vector<std::byte>;

/// True if it decodes to an exception, false if it is refused as a protocol violation. Anything else propagates and
/// fails the test.
bool is_accepted(std::span<const std::byte> record) {
  try {
    const auto error = decode_exception(record, 1);
    EXPECT_NE(error, nullptr);
    try {
      std::rethrow_exception(error);
    } catch (const shmpool::remote_error& caught) {
      EXPECT_EQ(caught.worker_pid(), 1);
      EXPECT_LE(caught.causes().size(), 16u);
    }
    return true;
  } catch (const std::system_error& refusal) {
    EXPECT_EQ(refusal.code(), shmpool::errc::protocol_violation);
    return false;
  }
}

template <class E>
bytes nested_record(E outer) {
  try {
    try {
      throw std::out_of_range("inner");
    } catch (...) {
      std::throw_with_nested(std::move(outer));
    }
  } catch (...) {
    return encode_exception(std::current_exception());
  }
}

/// Records that between them have every field of the layout.
std::vector<bytes> samples() {
  using std::filesystem::filesystem_error;
  return {
      encode_exception(std::make_exception_ptr(std::runtime_error("text"))),
      encode_exception(std::make_exception_ptr(42)),
      nested_record(filesystem_error("files", "/one", "/two", std::make_error_code(std::errc::io_error))),
      nested_record(registered_here("with state")),
  };
}

bytes record_of(std::initializer_list<int> values) {
  bytes record;
  for (int value : values) record.push_back(static_cast<std::byte>(value));
  return record;
}

TEST(hostile_record, samples_are_accepted) {
  for (const auto& record : samples()) EXPECT_TRUE(is_accepted(record));
}

TEST(hostile_record, cut_anywhere_is_refused) {
  for (const auto& record : samples()) {
    for (std::size_t size = 1; size < record.size(); ++size) {
      const bytes cut(record.begin(), record.begin() + static_cast<std::ptrdiff_t>(size));  // own memory, for ASan
      EXPECT_FALSE(is_accepted(cut)) << size << " of " << record.size();
    }
  }
}

TEST(hostile_record, with_bytes_behind_its_end_is_refused) {
  for (auto record : samples()) {
    record.push_back(std::byte{0});
    EXPECT_FALSE(is_accepted(record));
  }
}

TEST(hostile_record, of_an_unknown_form_is_refused) {
  EXPECT_FALSE(is_accepted(record_of({0, 7})));
  EXPECT_FALSE(is_accepted(record_of({3, 7})));
  EXPECT_FALSE(is_accepted(record_of({255, 7})));
}

TEST(hostile_record, of_an_unknown_kind_is_refused) {
  auto record = samples()[0];
  for (int kind : {0, 25, 255}) {
    record[1] = static_cast<std::byte>(kind);
    EXPECT_FALSE(is_accepted(record)) << kind;
    EXPECT_FALSE(is_accepted(record_of({2, kind}))) << kind;
  }
}

TEST(hostile_record, with_unknown_flags_is_refused) {
  auto record = samples()[0];
  record[2] = std::byte{4};
  EXPECT_FALSE(is_accepted(record));
}

TEST(hostile_record, that_promises_a_huge_string_is_refused) {
  EXPECT_FALSE(is_accepted(record_of({1, 7, 0, 255, 255, 255, 255, 'x'})));
  bytes record = record_of({1, 7, 0, 1, 0, 1, 0});  // 65,537 bytes, which are all there
  record.resize(record.size() + 65'537 + 5);
  EXPECT_FALSE(is_accepted(record));
}

TEST(hostile_record, with_more_than_16_causes_is_refused) {
  bytes record = record_of({1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 17});
  record.resize(record.size() + 17 * 8);
  EXPECT_FALSE(is_accepted(record));
  record[11] = std::byte{16};
  record.resize(12 + 16 * 8);
  EXPECT_TRUE(is_accepted(record));
}

TEST(hostile_record, empty_or_bare_is_what_a_worker_without_memory_sends) {
  try {
    std::rethrow_exception(decode_exception({}, 1));
  } catch (const std::bad_alloc& error) {
    EXPECT_NE(std::string(error.what()).find("no memory"), std::string::npos);
  }
  try {
    std::rethrow_exception(decode_exception(record_of({2, 3}), 1));
  } catch (const std::invalid_argument& error) {
    EXPECT_EQ(std::string(error.what()), "std::invalid_argument, which the worker had no memory left to describe");
  }
}

TEST(hostile_record, for_a_registered_type_that_is_not_known_arrives_as_the_standard_kind) {
  auto record = encode_exception(std::make_exception_ptr(registered_here("with state")));
  const std::string key = typeid(registered_here).name();
  const auto as_bytes = std::as_bytes(std::span(key));
  const auto at = std::search(record.begin(), record.end(), as_bytes.begin(), as_bytes.end());
  ASSERT_NE(at, record.end());
  *at = std::byte{'?'};
  try {
    std::rethrow_exception(decode_exception(record, 1));
  } catch (const registered_here&) {
    FAIL() << "a key that names no type";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "with state");
  }
}

TEST(hostile_record, with_flipped_bits_is_refused_or_decoded) {
  std::mt19937 random(20240229);
  const auto records = samples();
  int refused = 0;
  int accepted = 0;
  for (int round = 0; round != 20'000; ++round) {
    auto record = records[random() % records.size()];
    const auto flips = 1 + random() % 4;
    for (unsigned n = 0; n != flips; ++n)
      record[random() % record.size()] ^= static_cast<std::byte>(1u << random() % 8);
    ++(is_accepted(record) ? accepted : refused);
  }
  EXPECT_GT(refused, 1'000);   // lengths, kinds, flags
  EXPECT_GT(accepted, 1'000);  // texts and values
}

TEST(hostile_record, of_random_bytes_is_refused_or_decoded) {
  std::mt19937 random(7);
  for (int round = 0; round != 20'000; ++round) {
    bytes record(random() % 64);
    for (auto& byte : record) byte = static_cast<std::byte>(random() % 5);  // small numbers get deeper into the layout
    is_accepted(record);
  }
}

}  // namespace
