#include "pool/ring_poller.hpp"

namespace shmpool::pool {

void ring_poller::plan(bool awake, std::chrono::nanoseconds spin, time_point now) noexcept {
  if (!polling_under_lock()) {
    spinning_ = spin > spin.zero() && budget_.begin();
    if (!spinning_ && !awake) return;
    polling_.store(true);
    found_ = false;
  }
  until_ = spinning_ ? now + spin : now;
}

void ring_poller::found() noexcept {
  found_ = true;
  if (spinning_) budget_.found();
}

bool ring_poller::end() noexcept {
  if (!polling_.exchange(false)) return false;
  if (spinning_ && !found_) budget_.missed();
  return true;
}

}  // namespace shmpool::pool
