// When each task is to be looked at next: a binary heap that knows where every task is in it, so that the deadline of a
// task that ends early leaves at once and the heap never holds more than the tasks that have one.
//
// Thread safety: none.
#pragma once

#include "sched/scheduler.hpp"
#include "sched/task_table.hpp"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

namespace shmpool::sched {

/// `now` + `span`, or the end of time where that would overflow.
inline time_point later(time_point now, duration span) noexcept {
  return span > time_point::max() - std::max(now, time_point{}) ? time_point::max() : now + span;
}

class deadline_heap {
 public:
  /// Gives the task a deadline, or moves the one that it has.
  void set(index_type task, time_point at) {
    if (task >= places_.size()) places_.resize(task + std::size_t{1}, absent);
    std::size_t place = places_[task];
    if (place == absent) {
      place = entries_.size();
      entries_.push_back({at, task});
    } else {
      entries_[place].at = at;
    }
    sink(rise(place));
  }

  /// Does nothing if the task has none.
  void clear(index_type task) noexcept {
    if (task >= places_.size() || places_[task] == absent) return;
    const std::size_t place = std::exchange(places_[task], absent);
    const entry last = entries_.back();
    entries_.pop_back();
    if (place == entries_.size()) return;
    entries_[place] = last;
    sink(rise(place));
  }

  /// The task with the earliest deadline if that is not after `now`, else no_index. It stays until it is set or
  /// cleared.
  index_type due(time_point now) const noexcept {
    return entries_.empty() || entries_.front().at > now ? no_index : entries_.front().task;
  }

  std::optional<time_point> earliest() const noexcept {
    if (entries_.empty()) return std::nullopt;
    return entries_.front().at;
  }

  std::size_t size() const noexcept { return entries_.size(); }

  /// Tasks below `count` can be given deadlines from here without memory.
  void reserve(std::size_t count) {
    if (places_.size() >= count) return;
    entries_.reserve(2 * count);
    places_.resize(2 * count, absent);
  }

 private:
  struct entry {
    time_point at;
    index_type task;
  };
  static constexpr std::size_t absent = static_cast<std::size_t>(-1);

  std::size_t rise(std::size_t place) noexcept {
    const entry moving = entries_[place];
    while (place != 0 && moving.at < entries_[(place - 1) / 2].at) {
      put(place, entries_[(place - 1) / 2]);
      place = (place - 1) / 2;
    }
    put(place, moving);
    return place;
  }

  void sink(std::size_t place) noexcept {
    const entry moving = entries_[place];
    for (std::size_t child = 2 * place + 1; child < entries_.size(); child = 2 * place + 1) {
      if (child + 1 < entries_.size() && entries_[child + 1].at < entries_[child].at) ++child;
      if (moving.at <= entries_[child].at) break;
      put(place, entries_[child]);
      place = child;
    }
    put(place, moving);
  }

  void put(std::size_t place, const entry& what) noexcept {
    entries_[place] = what;
    places_[what.task] = place;
  }

  std::vector<entry> entries_;
  std::vector<std::size_t> places_;
};

}  // namespace shmpool::sched
