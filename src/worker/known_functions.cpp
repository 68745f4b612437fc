#include "worker/known_functions.hpp"

#include "code/code_ref.hpp"
#include "wire/hello.hpp"

#include <shmpool/detail/codec/message.hpp>

namespace shmpool::worker {

void known_functions::define(std::uint64_t number, std::span<const std::byte> body) {
  known_function& made = all_[number];
  detail::unpacker from(body, {});
  const auto name = wire::function_name::decode(from);
  made.entry = reinterpret_cast<detail::trampoline>(const_cast<void*>(code::resolve(name.entry, made.problem)));
  if (!name.target || !made.entry) return;
  made.target = code::resolve(*name.target, made.problem);
  if (!made.target) made.entry = nullptr;
}

}  // namespace shmpool::worker
