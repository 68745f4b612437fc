// The arguments of a task, through the trampolines that workers call: the task runs, or the message is refused as a
// protocol violation.
#include "fuzz/messages.hpp"

namespace shmpool::fuzz {

void arguments(input from) {
  static const auto functions = argument_functions();
  auto [kind, message] = read_message(from, functions.size());
  testing::round_trip call;
  call.arguments = std::move(message);
  try {
    call.run(functions[kind]);
  } catch (const std::system_error& error) {
    promise(error.code() == errc::protocol_violation, "arguments were refused, but not as a protocol violation");
    return;
  } catch (const std::exception&) {
    promise(false, "arguments were refused, but not as a protocol violation");
  }
  detail::unpacker result(call.result.bytes, call.result.attachments);
  (void)detail::result_codec<std::uint64_t>::get(result);  // the task has run, and so has a result
}

}  // namespace shmpool::fuzz
