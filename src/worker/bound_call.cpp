#include "worker/bound_call.hpp"

#include <shmpool/error.hpp>

#include <string>
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

void bound_call::resolve() {
  code_.entry = reinterpret_cast<detail::trampoline>(resolve_or_throw(which_.function.entry));
  if (which_.function.target) code_.target = resolve_or_throw(*which_.function.target);
}

void bound_call::operator()(detail::segment_source& memory, std::size_t inline_bytes) const {
  detail::unpacker arguments(which_.arguments, {});
  detail::packer nothing(memory, inline_bytes);
  detail::invocation call{arguments, nothing, code_.target};
  code_.entry(call);
}

}  // namespace shmpool::worker
