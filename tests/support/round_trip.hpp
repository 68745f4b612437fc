// One submit without processes: arguments are stored, written, read by the trampoline, and the result is read back.
//
// Thread safety: none.
#pragma once

#include "support/memory_source.hpp"

#include <shmpool/array.hpp>
#include <shmpool/detail/codec/callable.hpp>
#include <shmpool/error.hpp>

#include <cstddef>
#include <tuple>
#include <utility>
#include <vector>

namespace shmpool::testing {

inline constexpr std::size_t inline_limit = 64;

/// As make_array(), in memory that the other side can be lent.
template <class T, class... Args>
auto shared_array(const Args&... args) {
  return detail::make_array_with<T>(memory_segment::make, args...);
}

/// A message that outlives its packer.
struct message {
  std::vector<std::byte> bytes;
  std::vector<detail::attachment> attachments;
};

class round_trip {
 public:
  memory_source source;
  message arguments;  ///< of the last call
  message result;     ///< of the last call

  template <class F, class... Args>
  auto operator()(F function, Args&&... args) {
    using task = detail::task_for<F, Args...>;
    static_assert(detail::callable_with<F, Args...>);
    {
      auto stored = detail::store_arguments<F, Args...>(std::forward<Args>(args)...);
      detail::packer packed(source, inline_limit);
      detail::encode_arguments(packed, function, std::move(stored));
      arguments = {std::move(packed.bytes()), std::move(packed.attachments())};
    }
    run(task::ref(function));
    detail::unpacker from(result.bytes, result.attachments);
    return task::decode_result(from);
  }

  /// The worker's half, on `arguments` as they are.
  void run(const detail::callable_ref& ref) {
    detail::unpacker from(arguments.bytes, arguments.attachments);
    detail::packer to(source, inline_limit);
    detail::invocation call{from, to, ref.target};
    ref.entry(call);
    result = {std::move(to.bytes()), std::move(to.attachments())};
  }
};

/// Writes a value as an argument or as a result.
template <class T>
message pack_value(memory_source& source, const T& value, detail::direction way = detail::direction::argument) {
  detail::packer packed(source, inline_limit);
  detail::put_value(packed, value, way);
  return {std::move(packed.bytes()), std::move(packed.attachments())};
}

template <class T>
T unpack_value(const message& from) {
  detail::unpacker unpacked(from.bytes, from.attachments);
  T value = detail::get_value<T>(unpacked);
  if (unpacked.remaining() != 0) detail::throw_protocol_violation("bytes behind the end of a value");
  return value;
}

/// True if `action` either ends well or throws protocol_violation; anything else that it throws passes.
template <class Action>
bool value_or_violation(Action&& action) {
  try {
    action();
    return true;
  } catch (const std::system_error& error) {
    return error.code() == errc::protocol_violation;
  }
}

}  // namespace shmpool::testing
