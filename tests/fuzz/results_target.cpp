// The results of tasks: a message is refused as a protocol violation, or holds a value; what was decoded encodes, and
// that decodes to the same value.
#include "fuzz/messages.hpp"

#include <limits>

namespace shmpool::fuzz {

namespace {

/// With all arrays in the message, so that equal bytes are equal values.
template <class T>
std::vector<std::byte> encode(const T& value) {
  testing::memory_source source;
  detail::packer packed(source, std::numeric_limits<std::size_t>::max());
  detail::result_codec<T>::put(packed, value);
  promise(packed.attachments().empty(), "an array that should be in the message is in a segment");
  return std::move(packed.bytes());
}

template <class T>
void decode(const testing::message& message) {
  std::vector<std::byte> first;
  try {
    detail::unpacker from(message.bytes, message.attachments);
    first = encode(detail::result_codec<T>::get(from));
  } catch (const std::system_error& error) {
    promise(error.code() == errc::protocol_violation, "a result was refused, but not as a protocol violation");
    return;
  } catch (const broken_promise&) {
    throw;
  } catch (const std::exception&) {
    promise(false, "a result was refused, but not as a protocol violation");
  }
  try {
    detail::unpacker again(first, {});
    promise(encode(detail::result_codec<T>::get(again)) == first, "a value changes when it is sent on");
  } catch (const std::system_error&) {
    promise(false, "a value that was decoded cannot be sent on");
  }
}

}  // namespace

void results(input from) {
  const auto [kind, message] = read_message(from, result_type_count);
  visit_result_type(kind, [&]<class T>() { decode<T>(message); });
}

}  // namespace shmpool::fuzz
