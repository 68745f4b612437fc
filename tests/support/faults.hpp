// What tests of faults share: a pool of one worker, what a submit ends with, and checks in a child, where no assertion
// can report.
#pragma once

#include "api/pool_fixture.hpp"
#include "support/pending_result.hpp"

#include <cstdio>
#include <exception>
#include <string>
#include <utility>

/// In a coroutine of a child: says which check failed, and ends the child with 1.
#define SHMPOOL_STEP(condition)                                                 \
  if (!(condition)) {                                                           \
    std::fprintf(stderr, "%s:%d: child: %s\n", __FILE__, __LINE__, #condition); \
    co_return 1;                                                                \
  }

namespace shmpool::testing {

/// Elements of an array of double that are more than travel in a message.
inline constexpr std::size_t some = 20'000;

inline pool_options with_workers(unsigned number) {
  auto chosen = options();
  chosen.workers = number;
  return chosen;
}

/// What one submit ends with.
template <class T, class... Args>
asio::awaitable<std::exception_ptr> end_of(process_pool& pool, Args&&... args) {
  pending_result<T> result;
  pool.submit(std::forward<Args>(args)..., result.handler());
  co_await result.ended();
  co_return result.error();
}

/// Whether the error says so; shows it if it does not.
inline bool says(const std::exception_ptr& error, const char* part) {
  const bool found = text_of(error).find(part) != std::string::npos;
  if (!found) std::fprintf(stderr, "'%s' is not in: %s\n", part, text_of(error).c_str());
  return found;
}

}  // namespace shmpool::testing
