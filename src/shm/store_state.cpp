// Counting, caching and freeing; see the header for the locking rule.
#include "shm/store_state.hpp"

#include "process/assert.hpp"
#include "process/mutex.hpp"
#include "shm/exhausted.hpp"

#include <algorithm>

namespace shmpool::shm {

void store::impl::charge(std::size_t bytes, std::size_t asked, segment_chain& evicted) {
  if (const std::uint64_t budget = options.max_bytes; budget != 0) {
    if (live_bytes > budget || bytes > budget - live_bytes)
      throw_budget_exhausted(asked, live_bytes, options.max_bytes);
    while (live_bytes + cache.bytes() + bytes > budget) evicted.push(*cache.take_oldest());
  }
  live_bytes += bytes;
  peak_bytes = std::max(peak_bytes, live_bytes + cache.bytes());
}

file_segment* store::impl::revive(const segment_cache::wish& wish) noexcept {
  const mutex_lock guard(mutex);
  file_segment* const segment = cache.take(wish);
  if (segment == nullptr) return nullptr;
  ++live_segments;
  live_bytes += segment->reserved();
  return segment;
}

bool store::impl::keep(file_segment& segment) noexcept {
  if (!segment.created() || segment.nameless()) return false;
  const auto now = clock::now();
  segment_chain evicted;
  {
    const mutex_lock guard(mutex);
    if (closed.load(std::memory_order_relaxed) || segment.reserved() > options.cache_bytes) return false;
    SHMPOOL_ASSERT(live_segments != 0 && live_bytes >= segment.reserved());
    --live_segments;
    live_bytes -= segment.reserved();
    if (cache.count() == 0)
      trim_due.store((now + options.cache_idle).time_since_epoch().count(), std::memory_order_relaxed);
    cache.put(segment, now);
    while (cache.bytes() > options.cache_bytes) evicted.push(*cache.take_oldest());
  }
  destroy(evicted);
  return true;
}

void store::impl::retire(file_segment& segment) noexcept {
  const std::size_t reserved = segment.reserved();
  destroy(segment);
  {
    // Only now, so that the budget never promises bytes that are still in use.
    const mutex_lock guard(mutex);
    SHMPOOL_ASSERT(live_segments != 0 && live_bytes >= reserved);
    --live_segments;
    live_bytes -= reserved;
  }
  drop_lock_if_done();
}

void store::impl::destroy(file_segment& segment) noexcept {
  SHMPOOL_ASSERT(segment.use_count() == 0);
  std::shared_ptr<const mailbox_list> listeners;
  {
    const mutex_lock guard(mutex);
    listeners = mailboxes;
  }
  segment.unlink();
  const std::uint64_t id = segment.id();
  delete &segment;
  for (const auto& weak : *listeners) {
    if (const auto mailbox = weak.lock()) mailbox->freed(id);
  }
}

std::size_t store::impl::destroy(segment_chain chain) noexcept {
  std::size_t count = 0;
  while (file_segment* segment = chain.pop()) {
    destroy(*segment);
    ++count;
  }
  return count;
}

std::size_t store::impl::drop_cache() noexcept {
  segment_chain chain;
  {
    const mutex_lock guard(mutex);
    while (file_segment* segment = cache.take_oldest()) chain.push(*segment);
  }
  return destroy(chain);
}

void store::impl::drop_older_than(clock::time_point then) noexcept {
  segment_chain old;
  {
    const mutex_lock guard(mutex);
    auto oldest = cache.oldest();
    while (oldest && *oldest < then) {
      old.push(*cache.take_oldest());
      oldest = cache.oldest();
    }
    trim_due.store(oldest ? (*oldest + options.cache_idle).time_since_epoch().count() : never,
                   std::memory_order_relaxed);
  }
  destroy(old);
}

void store::impl::drop_lock_if_done() noexcept {
  {
    const mutex_lock guard(mutex);
    if (!closed.load(std::memory_order_relaxed) || live_segments != 0) return;
  }
  lock->drop_file();
}

}  // namespace shmpool::shm
