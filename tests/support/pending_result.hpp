// Submits that a test looks at from outside while they run: what has become of them, and waiting for it without
// blocking the loop.
#pragma once

#include <shmpool.hpp>

#include <asio.hpp>

#include <gtest/gtest.h>

#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

namespace shmpool::testing {

/// Resumes when `event()` is true; false if that takes longer than `patience`.
template <class Event>
asio::awaitable<bool> until(Event event, std::chrono::milliseconds patience = std::chrono::seconds(20)) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!event()) {
    if (std::chrono::steady_clock::now() > deadline) co_return false;
    timer.expires_after(std::chrono::milliseconds(1));
    co_await timer.async_wait(asio::use_awaitable);
  }
  co_return true;
}

/// What has become of one submit. Must outlive it.
template <class T>
class pending_result {
 public:
  pending_result() = default;
  pending_result(const pending_result&) = delete;
  pending_result& operator=(const pending_result&) = delete;

  /// The completion handler.
  auto handler() {
    if constexpr (std::is_void_v<T>) {
      return [this](std::exception_ptr error) { completed(error); };
    } else {
      return [this](std::exception_ptr error, T value) {
        completed(error);
        if (!error) value_.emplace(std::move(value));
      };
    }
  }

  int calls() const noexcept { return calls_; }
  bool done() const noexcept { return calls_ != 0; }
  bool succeeded() const noexcept { return done() && !error_; }
  const std::exception_ptr& error() const noexcept { return error_; }
  const auto& value() const { return value_.value(); }

  /// Waits, without throwing what the task threw.
  asio::awaitable<void> ended() {
    EXPECT_TRUE(co_await until([this] { return done(); })) << "never completed";
  }

 private:
  void completed(std::exception_ptr error) {
    ++calls_;
    EXPECT_EQ(calls_, 1) << "completed twice";
    error_ = std::move(error);
  }

  int calls_ = 0;
  std::exception_ptr error_;
  std::optional<std::conditional_t<std::is_void_v<T>, char, T>> value_;
};

/// The worker_lost that an exception is, or nothing and a failure of the test.
inline std::optional<worker_lost> as_worker_lost(const std::exception_ptr& error) {
  try {
    if (error) std::rethrow_exception(error);
    ADD_FAILURE() << "no error at all";
  } catch (const worker_lost& lost) {
    return lost;
  } catch (const std::exception& other) {
    ADD_FAILURE() << "not worker_lost but: " << other.what();
  }
  return std::nullopt;
}

/// The code of a system_error of any kind; default-constructed if it is none.
inline std::error_code code_of(const std::exception_ptr& error) {
  try {
    if (error) std::rethrow_exception(error);
  } catch (const std::system_error& failed) {
    return failed.code();
  } catch (...) {
  }
  return {};
}

inline std::string text_of(const std::exception_ptr& error) {
  try {
    if (error) std::rethrow_exception(error);
  } catch (const std::exception& failed) {
    return failed.what();
  } catch (...) {
    return "something else";
  }
  return {};
}

/// What `call()` throws, or null.
template <class Call>
std::exception_ptr thrown_by(Call call) {
  try {
    call();
  } catch (...) {
    return std::current_exception();
  }
  return nullptr;
}

/// A number that a running task shows: written by the task into an array that is lent to it, read by the test
/// meanwhile.
class signal_flag {
 public:
  explicit signal_flag(process_pool& pool)
      : memory(pool.make_array<int>(8192, fill(0))) {}  // more than travels in a message
  int read() const { return std::atomic_ref(const_cast<int&>(memory[0])).load(std::memory_order_acquire); }
  array<int> memory;
};

/// The task's side.
inline void show(array<int>& flag, int value) {
  std::atomic_ref(flag[0]).store(value, std::memory_order_release);
}

}  // namespace shmpool::testing
