// A heap of deadlines: when each task, or each worker, is to be checked next.
//
// Thread safety: none.
#pragma once

#include "sched/indexed_heap.hpp"
#include "sched/scheduler.hpp"

#include <algorithm>
#include <optional>

namespace shmpool::sched {

/// `now` + `span`, or the end of time where that would overflow.
inline time_point later(time_point now, duration span) noexcept {
  return span > time_point::max() - std::max(now, time_point{}) ? time_point::max() : now + span;
}

class deadline_heap : public indexed_heap<time_point> {
 public:
  /// The index with the earliest deadline if that is not after `now`, else no_index. It stays until it is set or
  /// cleared.
  index_type due(time_point now) const noexcept {
    return first() == no_index || first_key() > now ? no_index : first();
  }

  std::optional<time_point> earliest() const noexcept {
    if (first() == no_index) return std::nullopt;
    return first_key();
  }
};

}  // namespace shmpool::sched
