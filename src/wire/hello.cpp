#include "wire/hello.hpp"

#include "wire/frame.hpp"

#include <shmpool/detail/codec/little_endian.hpp>
#include <shmpool/error.hpp>

#include <string>
#include <system_error>

namespace shmpool::wire {

namespace {

void append_call(std::vector<std::byte>& body, const std::optional<named_call>& call, const char* option) {
  body.push_back(std::byte{call.has_value()});
  if (!call) return;
  call->function.append_to(body);
  detail::append_le(body, std::uint64_t{call->arguments.size()});
  if (call->arguments.size() > max_body - body.size()) {
    throw std::system_error(errc::message_too_large, std::string("the arguments of ") + option);
  }
  body.insert(body.end(), call->arguments.begin(), call->arguments.end());
}

std::optional<named_call> decode_call(detail::unpacker& from) {
  if (from.get<std::uint8_t>() == 0) return std::nullopt;
  named_call call;
  call.function = function_name::decode(from);
  const auto arguments = from.take(static_cast<std::size_t>(from.get<std::uint64_t>()));
  call.arguments.assign(arguments.begin(), arguments.end());
  return call;
}

}  // namespace

void function_name::append_to(std::vector<std::byte>& body) const {
  code::append_code_ref(body, entry);
  body.push_back(std::byte{target.has_value()});
  if (target) code::append_code_ref(body, *target);
}

function_name function_name::decode(detail::unpacker& from) {
  function_name name;
  name.entry = code::decode_code_ref(from);
  if (from.get<std::uint8_t>() != 0) name.target = code::decode_code_ref(from);
  return name;
}

std::vector<std::byte> hello::encode() const {
  std::vector<std::byte> body;
  detail::append_le(body, inline_bytes);
  detail::append_le(body, idle_ms);
  detail::append_le(body, max_resident_bytes);
  body.push_back(std::byte{dump_arrays});
  append_call(body, initializer, "pool_options::initializer");
  append_call(body, finalizer, "pool_options::finalizer");
  return body;
}

hello hello::decode(std::span<const std::byte> body) {
  detail::unpacker from(body, {});
  hello told;
  told.inline_bytes = from.get<std::uint64_t>();
  told.idle_ms = from.get<std::uint64_t>();
  told.max_resident_bytes = from.get<std::uint64_t>();
  told.dump_arrays = from.get<std::uint8_t>() != 0;
  told.initializer = decode_call(from);
  told.finalizer = decode_call(from);
  return told;
}

}  // namespace shmpool::wire
