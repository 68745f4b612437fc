// Exception records as bytes; the layout is in docs/wire-exceptions.md and nowhere else in code.
// Thread safety: stateless.
#include <shmpool/detail/codec/exception_codec.hpp>
#include <shmpool/detail/codec/little_endian.hpp>

#include <algorithm>
#include <string_view>
#include <utility>

#include "errors/exception_record.hpp"
#include "errors/standard_exceptions.hpp"

namespace shmpool::detail {
namespace {

enum class form : std::uint8_t { full = 1, bare = 2 };

constexpr std::uint8_t has_code = 1;
constexpr std::uint8_t has_state = 2;

// Cuts what is too long, but not through the middle of a UTF-8 sequence.
void append_cut(std::vector<std::byte>& to, std::string_view text) {
  if (text.size() > max_exception_text) {
    std::size_t end = max_exception_text;
    while (end > max_exception_text - 3 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
    text = text.substr(0, end);
  }
  append_string(to, text);
}

std::vector<std::byte> encode(const exception_record& record) {
  std::vector<std::byte> bytes;
  bytes.reserve(64 + record.type_name.size() + record.text.size());
  append_le(bytes, static_cast<std::uint8_t>(form::full));
  append_le(bytes, record.kind);
  append_le(bytes, static_cast<std::uint8_t>((record.code ? has_code : 0) | (record.state ? has_state : 0)));
  append_cut(bytes, record.type_name);
  append_cut(bytes, record.text);
  if (record.code) {
    append_le(bytes, static_cast<std::uint32_t>(record.code->value));
    append_cut(bytes, record.code->category);
  }
  if (record.kind == kind_filesystem_error) {
    append_cut(bytes, record.path1);
    append_cut(bytes, record.path2);
  }
  if (record.state) {
    append_string(bytes, record.state->type_key);
    append_bytes(bytes, record.state->bytes);
  }
  append_le(bytes, static_cast<std::uint8_t>(record.causes.size()));
  for (const auto& cause : record.causes) {
    append_cut(bytes, cause.type);
    append_cut(bytes, cause.text);
  }
  return bytes;
}

std::string take_text(unpacker& from) {
  return take_string(from, max_exception_text);
}

std::uint8_t take_kind(unpacker& from) {
  const auto kind = take_le<std::uint8_t>(from);
  if (!is_standard_kind(kind)) throw_protocol_violation("exception record of an unknown kind");
  return kind;
}

exception_record decode_full(unpacker& from) {
  exception_record record;
  record.kind = take_kind(from);
  const auto flags = take_le<std::uint8_t>(from);
  if ((flags & ~(has_code | has_state)) != 0) throw_protocol_violation("exception record with unknown flags");
  record.type_name = take_text(from);
  record.text = take_text(from);
  if ((flags & has_code) != 0) {
    auto& code = record.code.emplace();
    code.value = static_cast<std::int32_t>(take_le<std::uint32_t>(from));
    code.category = take_text(from);
  }
  if (record.kind == kind_filesystem_error) {
    record.path1 = take_text(from);
    record.path2 = take_text(from);
  }
  if ((flags & has_state) != 0) {
    auto& state = record.state.emplace();
    state.type_key = take_text(from);
    const auto bytes = take_bytes(from, max_exception_state);
    state.bytes.assign(bytes.begin(), bytes.end());
  }
  const std::size_t causes = take_le<std::uint8_t>(from);
  if (causes > max_exception_causes) throw_protocol_violation("exception record with too many causes");
  for (std::size_t i = 0; i != causes; ++i) {
    auto type = take_text(from);
    record.causes.push_back({std::move(type), take_text(from)});
  }
  return record;
}

exception_record decode(std::span<const std::byte> bytes) {
  if (bytes.empty()) return bare_record(kind_bad_alloc);
  unpacker from(bytes, {});
  exception_record record;
  switch (static_cast<form>(take_le<std::uint8_t>(from))) {
    case form::full: record = decode_full(from); break;
    case form::bare: record = bare_record(take_kind(from)); break;
    default: throw_protocol_violation("exception record of an unknown form");
  }
  if (from.remaining() != 0) throw_protocol_violation("exception record with bytes behind its end");
  return record;
}

}  // namespace

std::vector<std::byte> encode_exception(std::exception_ptr error) noexcept {
  try {
    return encode(describe_exception(error));
  } catch (...) {
    // No memory for the whole record; there may still be some for two bytes.
  }
  try {
    return {static_cast<std::byte>(form::bare), static_cast<std::byte>(nearest_standard_kind(error))};
  } catch (...) {
    return {};
  }
}

void check_exception(std::span<const std::byte> record) {
  static_cast<void>(decode(record));
}

std::exception_ptr decode_exception(std::span<const std::byte> record, pid_t worker_pid) {
  return revive_exception_record(decode(record), worker_pid);
}

}  // namespace shmpool::detail
