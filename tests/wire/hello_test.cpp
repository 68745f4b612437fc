// What a worker is told first: the body of `hello`, and how it names functions.
#include "wire/hello.hpp"

#include "wire/frame.hpp"

#include <shmpool/error.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace shmpool::wire {
namespace {

using ::testing::HasSubstr;

code::code_ref code_at(std::uint64_t offset) {
  code::code_ref ref;
  ref.module_id = {std::byte{1}, std::byte{0xab}, std::byte{0xcd}};  // a build id
  ref.offset = offset;
  ref.path = "/opt/program";
  return ref;
}

hello with_both_calls() {
  hello told;
  told.inline_bytes = 1234;
  told.idle_ms = 0x1'0000'0001;
  told.max_resident_bytes = ~std::uint64_t{0};
  told.dump_arrays = true;
  told.initializer = named_call{{code_at(1), code_at(2)}, {std::byte{7}, std::byte{8}}};
  told.finalizer = named_call{{code_at(3), std::nullopt}, {}};
  return told;
}

void expect_same(const std::optional<named_call>& a, const std::optional<named_call>& b) {
  ASSERT_EQ(a.has_value(), b.has_value());
  if (!a) return;
  EXPECT_EQ(a->function.entry, b->function.entry);
  EXPECT_EQ(a->function.target, b->function.target);
  EXPECT_EQ(a->arguments, b->arguments);
}

void expect_same(const hello& a, const hello& b) {
  EXPECT_EQ(a.inline_bytes, b.inline_bytes);
  EXPECT_EQ(a.idle_ms, b.idle_ms);
  EXPECT_EQ(a.max_resident_bytes, b.max_resident_bytes);
  EXPECT_EQ(a.dump_arrays, b.dump_arrays);
  expect_same(a.initializer, b.initializer);
  expect_same(a.finalizer, b.finalizer);
}

/// The code of the error that `body` is refused with; none if it is taken.
std::error_code refusal_of(std::span<const std::byte> body) {
  try {
    hello::decode(body);
  } catch (const std::system_error& error) {
    return error.code();
  }
  return {};
}

/// The text of the error that it cannot be encoded with.
std::string too_large(const hello& told) {
  try {
    told.encode();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), errc::message_too_large);
    return error.what();
  }
  return "it is not too large";
}

TEST(hello, arrives_as_it_was_sent) {
  expect_same(hello::decode(with_both_calls().encode()), with_both_calls());
  expect_same(hello::decode(hello().encode()), hello());
}

TEST(hello, arrives_with_either_call_alone) {
  hello only_first = with_both_calls(), only_last = with_both_calls();
  only_first.finalizer.reset();
  only_last.initializer.reset();
  expect_same(hello::decode(only_first.encode()), only_first);
  expect_same(hello::decode(only_last.encode()), only_last);
}

// As docs/wire-frames.md says: another program may be at the other end.
TEST(hello, has_the_documented_layout) {
  hello told;
  told.inline_bytes = 0x0102;
  told.idle_ms = 0x03;
  told.max_resident_bytes = 0x04;
  told.dump_arrays = true;
  std::vector<std::byte> expected(8 + 8 + 8 + 1 + 1 + 1);
  expected[0] = std::byte{0x02};
  expected[1] = std::byte{0x01};
  expected[8] = std::byte{0x03};
  expected[16] = std::byte{0x04};
  expected[24] = std::byte{1};
  EXPECT_EQ(told.encode(), expected);
}

TEST(hello, that_ends_too_early_is_a_violation_of_the_protocol) {
  const std::vector<std::byte> whole = with_both_calls().encode();
  for (std::size_t size = 0; size != whole.size(); ++size) {
    ASSERT_EQ(refusal_of(std::span(whole).first(size)), errc::protocol_violation) << size << " bytes";
  }
  EXPECT_EQ(refusal_of(whole), std::error_code());
}

TEST(hello, that_claims_more_arguments_than_it_has_is_a_violation_of_the_protocol) {
  hello told;
  told.finalizer = named_call{{code_at(1), std::nullopt}, {}};
  std::vector<std::byte> body = told.encode();
  ASSERT_EQ(refusal_of(body), std::error_code());
  for (std::size_t i = 1; i <= 8; ++i) body[body.size() - i] = std::byte{0xff};  // the size of no arguments
  EXPECT_EQ(refusal_of(body), errc::protocol_violation);
}

TEST(hello, with_arguments_that_no_frame_can_take_names_the_option) {
  std::vector<std::byte> huge(max_body);
  hello told;
  told.initializer = named_call{{code_at(1), std::nullopt}, std::move(huge)};
  EXPECT_THAT(too_large(told), HasSubstr("pool_options::initializer"));
  std::swap(told.initializer, told.finalizer);
  EXPECT_THAT(too_large(told), HasSubstr("pool_options::finalizer"));
}

TEST(function_name, arrives_as_it_was_sent) {
  for (const function_name& sent : {function_name{code_at(5), std::nullopt}, function_name{code_at(5), code_at(6)}}) {
    std::vector<std::byte> body;
    sent.append_to(body);
    detail::unpacker from(body, {});
    const function_name got = function_name::decode(from);
    EXPECT_EQ(got.entry, sent.entry);
    EXPECT_EQ(got.target, sent.target);
    EXPECT_EQ(from.remaining(), 0u);
  }
}

TEST(function_name, that_ends_too_early_is_a_violation_of_the_protocol) {
  std::vector<std::byte> body;
  function_name{code_at(5), code_at(6)}.append_to(body);
  for (std::size_t size = 0; size != body.size(); ++size) {
    detail::unpacker from{std::span(body).first(size), {}};
    EXPECT_THROW(function_name::decode(from), std::system_error) << size << " bytes";
  }
}

}  // namespace
}  // namespace shmpool::wire
