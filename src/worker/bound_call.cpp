#include "worker/bound_call.hpp"

#include <shmpool/error.hpp>

#include <cstdint>
#include <system_error>

namespace shmpool::worker {

namespace {

void* resolve_or_throw(const code::code_ref& which) {
  std::string problem;
  const void* const found = code::resolve(which, problem);
  if (!found) throw std::system_error(errc::function_not_found, problem);
  return const_cast<void*>(found);
}

}  // namespace

std::optional<bound_call> bound_call::decode(detail::unpacker& from) {
  if (from.get<std::uint8_t>() == 0) return std::nullopt;
  bound_call made;
  made.entry_ = code::decode_code_ref(from);
  if (from.get<std::uint8_t>() != 0) made.target_ = code::decode_code_ref(from);
  const auto size = static_cast<std::size_t>(from.get<std::uint64_t>());
  const auto arguments = from.take(size);
  made.arguments_.assign(arguments.begin(), arguments.end());
  return made;
}

void bound_call::resolve() {
  code_.entry = reinterpret_cast<detail::trampoline>(resolve_or_throw(entry_));
  if (target_) code_.target = resolve_or_throw(*target_);
}

void bound_call::operator()(detail::segment_source& memory, std::size_t inline_bytes) const {
  detail::unpacker arguments(arguments_, {});
  detail::packer nothing(memory, inline_bytes);
  detail::invocation call{arguments, nothing, code_.target};
  code_.entry(call);
}

}  // namespace shmpool::worker
