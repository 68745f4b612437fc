// Tasks that a test holds in its hand: it can wait until one has begun, and says when it may end. The two sides talk
// through an array that is lent for writing.
//
// Thread safety: a gate may be used by any thread.
#pragma once

#include <shmpool.hpp>

#include <asio.hpp>

#include <unistd.h>
#include <atomic>
#include <thread>

namespace shmpool::testing {

class gate {
 public:
  template <class Pool>
  explicit gate(Pool& pool) : flags_(pool.template make_array<int>(elements, fill(0))) {}

  /// What the task gets; one task at a time.
  array<int>& argument() noexcept { return flags_; }

  bool entered() { return flag(0).load() != 0; }
  void open() { flag(1).store(1); }

  /// Worker's side: says that it has begun, and returns when the gate is open (true) or the task is to stop (false).
  static bool pass(array<int>& flags, bool heed_stop) {
    std::atomic_ref<int>(flags[0]).store(static_cast<int>(::getpid()));
    while (std::atomic_ref<int>(flags[1]).load() == 0) {
      if (heed_stop && this_task::stop_requested()) return false;
      ::usleep(200);
    }
    return true;
  }

 private:
  static constexpr std::size_t elements = 16 * 1024;  // too many to travel inside the message
  std::atomic_ref<int> flag(std::size_t index) { return std::atomic_ref<int>(flags_[index]); }
  array<int> flags_;
};

/// Ends when the gate is open, whatever is asked of it meanwhile; returns `value`.
inline int stubborn(array<int>& flags, int value) {
  gate::pass(flags, false);
  return value;
}

/// Ends when the gate is open or the task is asked to stop; returns `value`, negative if it was asked to stop.
inline int heedful(array<int>& flags, int value) {
  return gate::pass(flags, true) ? value : -value;
}

/// Lets `io` work until `condition` holds.
template <class Condition>
void run_until(asio::io_context& io, Condition condition) {
  while (!condition()) {
    io.poll();
    io.restart();
    std::this_thread::yield();
  }
}

/// The same in a coroutine.
inline asio::awaitable<void> entered(gate& which) {
  while (!which.entered()) co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
}

}  // namespace shmpool::testing
