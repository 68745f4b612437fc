// Intrusive lists; see the header.
#include "shm/segment_cache.hpp"

#include <utility>

namespace shmpool::shm {
namespace {

/// How many of a class take() looks at before it is content with the newest.
constexpr int most_looked_at = 64;

}  // namespace

void segment_cache::put(file_segment& segment, time_point now) noexcept {
  segment.cached_at_ = now;
  segment.newer_ = nullptr;
  segment.older_ = std::exchange(newest_, &segment);
  (segment.older_ != nullptr ? segment.older_->newer_ : oldest_) = &segment;

  file_segment*& newest_in_class = classes_.find(segment.capacity_)->second;
  segment.newer_in_class_ = nullptr;
  segment.older_in_class_ = std::exchange(newest_in_class, &segment);
  if (segment.older_in_class_ != nullptr) segment.older_in_class_->newer_in_class_ = &segment;

  ++count_;
  bytes_ += segment.reserved_;
}

void segment_cache::remove(file_segment& segment) noexcept {
  (segment.newer_ != nullptr ? segment.newer_->older_ : newest_) = segment.older_;
  (segment.older_ != nullptr ? segment.older_->newer_ : oldest_) = segment.newer_;
  file_segment*& below = segment.newer_in_class_ != nullptr ? segment.newer_in_class_->older_in_class_
                                                            : classes_.find(segment.capacity_)->second;
  below = segment.older_in_class_;
  if (segment.older_in_class_ != nullptr) segment.older_in_class_->newer_in_class_ = segment.newer_in_class_;
  segment.newer_ = segment.older_ = segment.newer_in_class_ = segment.older_in_class_ = nullptr;
  --count_;
  bytes_ -= segment.reserved_;
}

file_segment* segment_cache::take(const wish& wanted) noexcept {
  const auto found = classes_.find(wanted.capacity);
  if (found == classes_.end() || found->second == nullptr) return nullptr;
  file_segment* large_enough = nullptr;
  file_segment* best = nullptr;
  int looked_at = 0;
  for (file_segment* at = found->second; at != nullptr && looked_at < most_looked_at;
       at = at->older_in_class_, ++looked_at) {
    if (!at->complete() || at->reserved_ < wanted.bytes) continue;
    if (large_enough == nullptr) large_enough = at;
    if (!wanted.worker || at->maybe_mapped_by(*wanted.worker)) {
      best = at;
      break;
    }
  }
  if (best == nullptr) best = large_enough;
  if (best == nullptr && wanted.may_grow) best = found->second;
  if (best != nullptr) remove(*best);
  return best;
}

file_segment* segment_cache::take_oldest() noexcept {
  file_segment* const segment = oldest_;
  if (segment != nullptr) remove(*segment);
  return segment;
}

std::optional<segment_cache::time_point> segment_cache::oldest() const noexcept {
  if (oldest_ == nullptr) return std::nullopt;
  return oldest_->cached_at_;
}

void segment_chain::push(file_segment& segment) noexcept {
  segment.older_ = std::exchange(first_, &segment);
}

file_segment* segment_chain::pop() noexcept {
  file_segment* const segment = first_;
  if (segment != nullptr) first_ = std::exchange(segment->older_, nullptr);
  return segment;
}

}  // namespace shmpool::shm
