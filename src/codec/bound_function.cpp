// The table of the calls that bound functions hold, by key. Thread safety: one mutex, a leaf but for the allocator; no
// foreign code runs under it.
#include <shmpool/bound_function.hpp>
#include <shmpool/detail/codec/message.hpp>

#include "process/mutex.hpp"
#include "process/no_destructor.hpp"

#include <pthread.h>

#include <unordered_map>
#include <utility>

namespace shmpool {

namespace {

class call_table {
 public:
  call_table() {
    // If this fails (no memory), only a process that is forked while another thread is in here suffers.
    ::pthread_atfork(&lock_all, &unlock_all, &unlock_all);
  }

  /// Options in static objects may outlive any object here.
  static call_table& all() {
    static no_destructor<call_table> instance;
    return instance.value;
  }

  std::uint64_t add(std::shared_ptr<const detail::bound_call> call) {
    const mutex_lock lock(mutex_);
    calls_.emplace(last_ + 1, std::move(call));
    return ++last_;
  }
  std::uint64_t copy(std::uint64_t key) { return key == 0 ? 0 : add(find(key)); }
  std::shared_ptr<const detail::bound_call> find(std::uint64_t key) {
    const mutex_lock lock(mutex_);
    const auto found = calls_.find(key);
    return found == calls_.end() ? nullptr : found->second;
  }
  void remove(std::uint64_t key) noexcept {
    std::shared_ptr<const detail::bound_call> last;  // freed when the lock is
    const mutex_lock lock(mutex_);
    const auto found = calls_.find(key);
    if (found == calls_.end()) return;
    last = std::move(found->second);
    calls_.erase(found);
  }

 private:
  // The lock is held over a fork.
  static void lock_all() SHMPOOL_NO_THREAD_SAFETY_ANALYSIS { all().mutex_.lock(); }
  static void unlock_all() SHMPOOL_NO_THREAD_SAFETY_ANALYSIS { all().mutex_.unlock(); }

  mutex mutex_;
  std::uint64_t last_ SHMPOOL_GUARDED_BY(mutex_) = 0;
  std::unordered_map<std::uint64_t, std::shared_ptr<const detail::bound_call>> calls_ SHMPOOL_GUARDED_BY(mutex_);
};

/// The trampoline of a plain function.
void call_plain(detail::invocation& call) {
  reinterpret_cast<void (*)()>(const_cast<void*>(call.target))();
}

}  // namespace

bound_function::bound_function(detail::bound_call call)
    : key_(call_table::all().add(std::make_shared<const detail::bound_call>(std::move(call)))) {
}

bound_function bound_function::of_plain(void (*function)()) {
  if (!function) return {};
  return bound_function(detail::bound_call{{&call_plain, reinterpret_cast<const void*>(function)}, {}});
}

bound_function::bound_function(const bound_function& other) : key_(call_table::all().copy(other.key_)) {
}

bound_function& bound_function::operator=(const bound_function& other) {
  const std::uint64_t before = std::exchange(key_, call_table::all().copy(other.key_));
  if (before != 0) call_table::all().remove(before);
  return *this;
}

bound_function::~bound_function() {
  if (key_ != 0) call_table::all().remove(key_);
}

std::shared_ptr<const detail::bound_call> bound_function::call() const {
  return key_ == 0 ? nullptr : call_table::all().find(key_);
}

}  // namespace shmpool
