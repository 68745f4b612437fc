#include "pool/breakage.hpp"

#include <shmpool/detail/codec/exception_codec.hpp>
#include <shmpool/detail/engine.hpp>
#include <shmpool/error.hpp>

#include <system_error>

namespace shmpool::detail {

std::exception_ptr error_of(const breakage& of) {
  std::string why = of.why;
  std::exception_ptr cause = of.cause;
  if (of.thrown) {
    try {
      std::rethrow_exception(decode_exception(*of.thrown, of.worker_pid));
    } catch (const std::exception& error) {
      why += std::string(": ") + error.what();
      cause = std::current_exception();
    } catch (...) {
      cause = std::current_exception();
    }
  }
  try {
    const std::system_error error(errc::pool_broken, why + of.outlook);
    if (!cause) throw error;
    try {
      std::rethrow_exception(cause);
    } catch (...) {
      std::throw_with_nested(error);
    }
  } catch (...) {
    return std::current_exception();
  }
}

std::exception_ptr error_in(const outcome& result) {
  if (result.error) return result.error;
  try {
    if (result.broken) return error_of(*result.broken);
    if (result.threw) return decode_exception(result.bytes, result.worker_pid);
  } catch (...) {
    return std::current_exception();  // std::bad_alloc, for example, is an error, too
  }
  return nullptr;
}

}  // namespace shmpool::detail
