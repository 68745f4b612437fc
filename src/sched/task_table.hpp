// The tasks that the scheduler knows: a slab of records whose ids carry a generation, and intrusive lists over it.
// After the slab has grown to the most tasks that ever waited at once, a task costs no allocation.
//
// Thread safety: none.
#pragma once

#include "process/assert.hpp"
#include "sched/scheduler.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace shmpool::sched {

/// A position in a slab; `no_index` is none.
using index_type = std::uint32_t;
inline constexpr index_type no_index = std::numeric_limits<index_type>::max();

enum class task_state : std::uint8_t {
  vacant,    ///< the record names no task
  held,      ///< it waits for room
  admitted,  ///< it has room, and the engine is about to submit it
  queued,    ///< it waits in the scheduler's queue
  assigned,  ///< it is in the list of one worker, which may or may not have started it
};

struct task_record {
  std::uint64_t order = 0;  ///< counts submits; the queue is always sorted by it
  std::uint64_t warm_workers = 0;
  std::uint64_t bytes = 0;
  duration cost{};     ///< expected run time; duration::max() if unknown
  duration timeout{};  ///< zero: none
  time_point deadline = time_point::max();
  duration cancel_grace{};
  task_handle handle = no_task;
  std::uint32_t kind = 0;
  std::uint32_t generation = 0;
  index_type previous = no_index;
  index_type next = no_index;
  index_type worker = no_index;  ///< while assigned: where the worker's record is
  unsigned attempts_left = 1;
  /// How many workers have died that were to begin this task next and had begun nothing. A worker started before the
  /// last such death was known does not count: it may have died of the same cause.
  unsigned unbegun_deaths = 0;
  worker_id unbegun_until = 0;  ///< the last worker that was started before the last such death was known
  task_state state = task_state::vacant;
  failure doom = failure::none;  ///< how it ends unless its result comes first: its worker is about to be killed for it
  bool sent = false;   ///< while assigned: the engine has fetched the assignment, so the worker may know of it
  bool aside = false;  ///< while queued: its kind kills often, so others go first
  bool stop_requested = false;
  bool result_due = false;  ///< its worker was not killed for it, having begun a later task
};

/// The slab. Ids are never 0 and never repeat: a record whose generations are used up is not used again.
class task_table {
 public:
  /// A test passes `first_generation` to see what happens when the generations run out.
  explicit task_table(std::uint32_t first_generation = 0) : first_generation_(first_generation) {}

  index_type acquire() {
    index_type index = free_;
    if (index != no_index) {
      free_ = records_[index].next;
    } else {
      index = static_cast<index_type>(records_.size());
      records_.emplace_back().generation = first_generation_;
    }
    const std::uint32_t generation = records_[index].generation;
    records_[index] = task_record{};
    records_[index].generation = generation;
    ++size_;
    return index;
  }

  void release(index_type index) noexcept {
    task_record& record = records_[index];
    SHMPOOL_ASSERT(record.state != task_state::vacant && size_ != 0);
    record.state = task_state::vacant;
    --size_;
    if (record.generation == std::numeric_limits<std::uint32_t>::max()) return;
    ++record.generation;
    record.next = free_;
    free_ = index;
  }

  task_id id(index_type index) const noexcept {
    return (task_id{records_[index].generation} << 32) | (task_id{index} + 1);
  }

  /// The index of the task's record, or no_index if the task is not known (any more).
  index_type find(task_id task) const noexcept {
    const std::uint64_t position = (task & 0xffff'ffffU) - 1;  // an id of 0 wraps to something out of range
    if (position >= records_.size()) return no_index;
    const task_record& record = records_[position];
    if (record.state == task_state::vacant || record.generation != task >> 32) return no_index;
    return static_cast<index_type>(position);
  }

  task_record& operator[](index_type index) noexcept { return records_[index]; }
  const task_record& operator[](index_type index) const noexcept { return records_[index]; }

  /// Tasks that are known.
  std::size_t size() const noexcept { return size_; }
  /// Records, vacant ones included: every index is less than this.
  index_type slots() const noexcept { return static_cast<index_type>(records_.size()); }

 private:
  std::vector<task_record> records_;
  index_type free_ = no_index;
  std::size_t size_ = 0;
  std::uint32_t first_generation_;
};

/// A doubly linked list through the records' own links; a task is in at most one. Owns nothing.
class task_list {
 public:
  index_type front() const noexcept { return front_; }
  index_type back() const noexcept { return back_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

  void push_back(task_table& tasks, index_type index) noexcept { insert_before(tasks, no_index, index); }

  /// Inserts a task at its place by `order`, searched from `near`, a task in the list, or from the front. A search from
  /// the front passes only older tasks, and few of them are ever ahead of a task that had left the queue.
  void insert_by_order(task_table& tasks, index_type index, index_type near = no_index) noexcept {
    const std::uint64_t order = tasks[index].order;
    index_type place = near == no_index ? front_ : near;
    while (place != no_index && tasks[place].order < order) place = tasks[place].next;
    if (near != no_index) {
      index_type ahead = before(tasks, place);
      for (; ahead != no_index && tasks[ahead].order > order; ahead = before(tasks, place)) place = ahead;
    }
    insert_before(tasks, place, index);
  }

  void remove(task_table& tasks, index_type index) noexcept {
    SHMPOOL_ASSERT(size_ != 0);
    const index_type previous = tasks[index].previous;
    const index_type next = tasks[index].next;
    SHMPOOL_ASSERT((previous == no_index ? front_ : tasks[previous].next) == index);
    SHMPOOL_ASSERT((next == no_index ? back_ : tasks[next].previous) == index);
    (previous == no_index ? front_ : tasks[previous].next) = next;
    (next == no_index ? back_ : tasks[next].previous) = previous;
    tasks[index].previous = tasks[index].next = no_index;
    --size_;
  }

 private:
  /// The task ahead of `place`, where no_index is the end.
  index_type before(const task_table& tasks, index_type place) const noexcept {
    return place == no_index ? back_ : tasks[place].previous;
  }

  void insert_before(task_table& tasks, index_type place, index_type index) noexcept {
    SHMPOOL_ASSERT(tasks[index].previous == no_index && tasks[index].next == no_index && front_ != index);
    const index_type previous = before(tasks, place);
    tasks[index].previous = previous;
    tasks[index].next = place;
    (previous == no_index ? front_ : tasks[previous].next) = index;
    (place == no_index ? back_ : tasks[place].previous) = index;
    ++size_;
  }

  index_type front_ = no_index;
  index_type back_ = no_index;
  std::size_t size_ = 0;
};

}  // namespace shmpool::sched
