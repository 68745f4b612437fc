// A mutex whose use clang checks at compile time (-Wthread-safety): SHMPOOL_GUARDED_BY names the mutex of a member,
// SHMPOOL_REQUIRES the mutex of a function. Other compilers see a std::mutex.
//
// Thread safety: that of std::mutex.
#pragma once

#include "process/assert.hpp"

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <mutex>

#if defined(__clang__)
#define SHMPOOL_THREAD_ATTRIBUTE(...) __attribute__((__VA_ARGS__))
#else
#define SHMPOOL_THREAD_ATTRIBUTE(...)
#endif

/// The member may be used only with the mutex held.
#define SHMPOOL_GUARDED_BY(...) SHMPOOL_THREAD_ATTRIBUTE(guarded_by(__VA_ARGS__))
/// The function may be called only with the mutex held.
#define SHMPOOL_REQUIRES(...) SHMPOOL_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
/// The analysis cannot follow the function; a comment says why it is right.
#define SHMPOOL_NO_THREAD_SAFETY_ANALYSIS SHMPOOL_THREAD_ATTRIBUTE(no_thread_safety_analysis)

namespace shmpool {

class SHMPOOL_THREAD_ATTRIBUTE(capability("mutex")) mutex {
 public:
  constexpr mutex() noexcept = default;
  mutex(const mutex&) = delete;
  mutex& operator=(const mutex&) = delete;

  void lock() SHMPOOL_THREAD_ATTRIBUTE(acquire_capability()) {
    mutex_.lock();
    note_owner(true);
  }
  bool try_lock() SHMPOOL_THREAD_ATTRIBUTE(try_acquire_capability(true)) {
    if (!mutex_.try_lock()) return false;
    note_owner(true);
    return true;
  }
  void unlock() SHMPOOL_THREAD_ATTRIBUTE(release_capability()) {
    note_owner(false);
    mutex_.unlock();
  }
  /// For a function object that is called with the mutex held: tells the analysis so, and checks it.
  void assert_held() const SHMPOOL_THREAD_ATTRIBUTE(assert_capability(this)) {
#if defined(SHMPOOL_ASSERTIONS)
    SHMPOOL_ASSERT(owner_.load(std::memory_order_relaxed) == this_thread());
#endif
  }

 private:
  void note_owner([[maybe_unused]] bool locked) noexcept {
#if defined(SHMPOOL_ASSERTIONS)
    owner_.store(locked ? this_thread() : 0, std::memory_order_relaxed);
#endif
  }

  std::mutex mutex_;
#if defined(SHMPOOL_ASSERTIONS)
  static std::uintptr_t this_thread() noexcept { return static_cast<std::uintptr_t>(::pthread_self()); }
  std::atomic<std::uintptr_t> owner_{0};  // 0: no thread
#endif
};

class SHMPOOL_THREAD_ATTRIBUTE(scoped_lockable) mutex_lock {
 public:
  explicit mutex_lock(mutex& which) SHMPOOL_THREAD_ATTRIBUTE(acquire_capability(which)) : mutex_(which) {
    mutex_.lock();
  }
  mutex_lock(const mutex_lock&) = delete;
  mutex_lock& operator=(const mutex_lock&) = delete;
  ~mutex_lock() SHMPOOL_THREAD_ATTRIBUTE(release_capability()) {
    if (held_) mutex_.unlock();
  }
  /// Unlocks before the destructor does.
  void unlock() SHMPOOL_THREAD_ATTRIBUTE(release_capability()) {
    held_ = false;
    mutex_.unlock();
  }

 private:
  mutex& mutex_;
  bool held_ = true;
};

}  // namespace shmpool
