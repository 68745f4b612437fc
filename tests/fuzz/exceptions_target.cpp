// What a task threw: a record is refused as a protocol violation, or gives an exception that says where it came from
// and that can be sent on without change.
#include "fuzz/targets.hpp"

#include <shmpool/detail/codec/exception_codec.hpp>
#include <shmpool/error.hpp>
#include <shmpool/remote_error.hpp>

#include <exception>
#include <string>
#include <system_error>
#include <vector>

namespace shmpool::fuzz {

namespace {

constexpr pid_t worker = 4321;

std::exception_ptr decode(input record) {
  try {
    return detail::decode_exception(record, worker);
  } catch (const std::system_error& error) {
    promise(error.code() == errc::protocol_violation, "a record was refused, but not as a protocol violation");
  } catch (const std::exception&) {
    promise(false, "a record was refused, but not as a protocol violation");
  }
  return nullptr;
}

void look_at(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const remote_error& remote) {
    promise(remote.worker_pid() == worker, "an exception names another worker");
    promise(remote.causes().size() <= 16, "an exception has more causes than there can be");
  } catch (...) {
    promise(false, "an exception does not say where it came from");
  }
}

std::string text_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& caught) {
    return caught.what();
  } catch (...) {
    return "something else";
  }
}

}  // namespace

void exceptions(input from) {
  const std::exception_ptr error = decode(from);
  if (!error) return;
  look_at(error);
  const std::exception_ptr again = decode(detail::encode_exception(error));
  promise(again != nullptr, "an exception that was decoded cannot be sent on");
  look_at(again);
  // One without a text is given one by its type.
  const std::string text = text_of(error);
  promise(text.empty() || text_of(again) == text, "an exception changes its text when it is sent on");
}

}  // namespace shmpool::fuzz
