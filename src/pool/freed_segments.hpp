// Collects the segments that stores have freed, until the workers are told to drop their mappings.
//
// Thread safety: all members may be called from any thread.
#pragma once

#include "process/mutex.hpp"
#include "shm/store.hpp"

#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

namespace shmpool::pool {

class freed_segments final : public shm::freed_mailbox {
 public:
  void freed(std::uint64_t segment_id) noexcept override {
    const mutex_lock lock(mutex_);
    try {
      ids_.push_back(segment_id);
    } catch (...) {
      return;  // out of memory: a worker keeps a mapping that it could have dropped
    }
    pending_.store(true, std::memory_order_release);
  }

  std::vector<std::uint64_t> take() {
    if (!pending_.load(std::memory_order_acquire)) return {};
    const mutex_lock lock(mutex_);
    pending_.store(false, std::memory_order_relaxed);
    return std::exchange(ids_, {});
  }

 private:
  std::atomic<bool> pending_{false};
  mutex mutex_;
  std::vector<std::uint64_t> ids_ SHMPOOL_GUARDED_BY(mutex_);
};

}  // namespace shmpool::pool
