// What tests of exceptions that travel have in common: sending one, and looking at what can be caught.
// Thread safety: stateless.
#pragma once

#include <shmpool/detail/codec/exception_codec.hpp>

#include <gtest/gtest.h>
#include <sys/types.h>

#include <exception>
#include <typeinfo>
#include <utility>

namespace shmpool::testing_exceptions {

inline constexpr pid_t worker = 4321;

inline std::exception_ptr travel(const std::exception_ptr& error) {
  return detail::decode_exception(detail::encode_exception(error), worker);
}

template <class E>
std::exception_ptr thrown(E error) {
  return std::make_exception_ptr(std::move(error));
}

/// Calls `look` with what is caught as `E`, and fails if it cannot be caught as that.
template <class E, class F>
void catch_as(const std::exception_ptr& error, F look) {
  try {
    std::rethrow_exception(error);
  } catch (const E& caught) {
    look(caught);
    return;
  } catch (...) {
  }
  FAIL() << "not caught as " << typeid(E).name();
}

template <class E>
bool is_a(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const E&) {
    return true;
  } catch (...) {
    return false;
  }
}

}  // namespace shmpool::testing_exceptions
