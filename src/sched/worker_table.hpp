// The workers that have not exited yet: what each was told, what it holds, and which are idle, most recently idle
// first.
//
// Thread safety: none.
#pragma once

#include "process/assert.hpp"
#include "sched/scheduler.hpp"
#include "sched/task_table.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace shmpool::sched {

enum class worker_state : std::uint8_t {
  vacant,    ///< the record names no worker
  starting,  ///< start_worker was emitted; it takes tasks already, but runs none yet
  ready,     ///< it exists and takes tasks
  retiring,  ///< it was told to leave and has no task, or leaves of its own accord
  killed,    ///< SIGKILL was asked for; results that it sent before may still arrive
};

struct worker_record {
  worker_id id = 0;
  worker_state state = worker_state::vacant;
  bool idle = false;      ///< in the idle list
  bool outgrown = false;  ///< it is not to be given tasks any more
  bool replaced = false;  ///< a worker was started in its place
  bool up = false;        ///< it has set itself up: it said so, or has begun a task
  bool begun = false;     ///< it has begun a task
  bool stuck = false;     ///< it has been silent for too long: no more tasks may wait there until it is heard of
  unsigned tasks_left = no_limit;  ///< how many more it may be given
  unsigned long_tasks = 0;         ///< tasks that nothing may wait behind
  unsigned doomed = 0;    ///< tasks that it will be killed for unless they end first; it takes no others meanwhile
  duration short_work{};  ///< expected run time of all its other tasks
  task_list tasks;        ///< in the order of assignment, which is the order in which it runs them
  time_point up_since{};
  time_point heard{};     ///< when it replied last, or was given a task when it had none
  time_point leave_by{};  ///< while retiring: when it is killed
  index_type more_recently_idle = no_index;
  index_type less_recently_idle = no_index;

  static constexpr unsigned no_limit = std::numeric_limits<unsigned>::max();

  /// Whether it runs tasks, or is about to.
  bool working() const noexcept { return state == worker_state::starting || state == worker_state::ready; }
  /// Whether it has had all the tasks that it gets; it leaves when they have ended.
  bool spent() const noexcept { return working() && (outgrown || tasks_left == 0); }
  /// Whether it may be given tasks at all.
  bool usable() const noexcept { return working() && doomed == 0 && !outgrown && tasks_left != 0; }
  /// How many of its tasks cannot be running yet.
  std::size_t waiting() const noexcept {
    return state == worker_state::ready && !tasks.empty() ? tasks.size() - 1 : tasks.size();
  }
};

class worker_table {
 public:
  /// A new worker in state starting that may be given `tasks_each` tasks, at least 1. It is not in the idle list yet.
  index_type acquire(unsigned tasks_each) {
    index_type index = 0;
    while (index < records_.size() && records_[index].state != worker_state::vacant) ++index;
    if (index == records_.size()) records_.emplace_back();
    records_[index] = worker_record{};
    records_[index].id = ++last_id_;
    records_[index].tasks_left = tasks_each;
    records_[index].state = worker_state::starting;
    count(records_[index]);
    ++size_;
    return index;
  }

  /// From here on, up to `count` workers need no more memory.
  void reserve(std::size_t count) { records_.reserve(count); }

  void release(index_type index) noexcept {
    set_state(index, worker_state::vacant);
    SHMPOOL_ASSERT(size_ != 0);
    --size_;
  }

  /// Moves a worker on. Only one that is starting or ready stays in the idle list.
  void set_state(index_type index, worker_state next) noexcept {
    worker_record& worker = records_[index];
    uncount(worker);
    worker.state = next;
    count(worker);
    if (next != worker_state::ready) {
      set_busy(index);
    } else if (worker.idle) {
      set_idle(index);
    }
  }

  index_type find(worker_id worker) const noexcept {
    for (index_type index = 0; index < records_.size(); ++index) {
      if (records_[index].id == worker && records_[index].state != worker_state::vacant) return index;
    }
    return no_index;
  }

  worker_record& operator[](index_type index) noexcept { return records_[index]; }
  const worker_record& operator[](index_type index) const noexcept { return records_[index]; }
  std::size_t size() const noexcept { return size_; }
  /// The worker that was added last, gone or not; 0 if there was none.
  worker_id latest() const noexcept { return last_id_; }
  index_type slots() const noexcept { return static_cast<index_type>(records_.size()); }

  /// Counts a task that the worker is `given`, or uncounts one that it was given and did not get to.
  void count_task(index_type index, bool given) noexcept {
    worker_record& worker = records_[index];
    if (worker.tasks_left == worker_record::no_limit) return;
    uncount(worker);
    given ? --worker.tasks_left : ++worker.tasks_left;
    count(worker);
  }
  void set_outgrown(index_type index) noexcept {
    uncount(records_[index]);
    records_[index].outgrown = true;
    count(records_[index]);
    set_busy(index);
  }

  /// Workers in state starting.
  std::size_t starting() const noexcept { return starting_; }
  /// Workers in state retiring or killed.
  std::size_t leaving() const noexcept { return leaving_; }
  /// Workers that have had all the tasks that they get.
  std::size_t spent() const noexcept { return spent_; }

  index_type most_recently_idle() const noexcept { return idle_front_; }
  std::size_t idle_count() const noexcept { return idle_count_; }

  /// Puts a worker at the front of the idle list; one that has yet to start goes to the end, as others answer sooner.
  void set_idle(index_type index) noexcept {
    set_busy(index);
    worker_record& worker = records_[index];
    const bool last = worker.state == worker_state::starting;
    worker.more_recently_idle = last ? idle_back_ : no_index;
    worker.less_recently_idle = last ? no_index : idle_front_;
    link(worker, index, index);
    worker.idle = true;
    ++idle_count_;
  }

  void set_busy(index_type index) noexcept {
    worker_record& worker = records_[index];
    if (!worker.idle) return;
    link(worker, worker.less_recently_idle, worker.more_recently_idle);
    worker.more_recently_idle = worker.less_recently_idle = no_index;
    worker.idle = false;
    SHMPOOL_ASSERT(idle_count_ != 0);
    --idle_count_;
  }

 private:
  void count(const worker_record& worker) noexcept {
    if (worker.state == worker_state::starting) ++starting_;
    if (worker.state == worker_state::retiring || worker.state == worker_state::killed) ++leaving_;
    if (worker.spent()) ++spent_;
  }
  void uncount(const worker_record& worker) noexcept {
    if (worker.state == worker_state::starting) --starting_;
    if (worker.state == worker_state::retiring || worker.state == worker_state::killed) --leaving_;
    if (worker.spent()) --spent_;
  }

  /// Sets the links of `worker`'s neighbours: to `worker` when it enters the list, to each other when it leaves.
  void link(const worker_record& worker, index_type after_more, index_type before_less) noexcept {
    const index_type more = worker.more_recently_idle;
    const index_type less = worker.less_recently_idle;
    (more == no_index ? idle_front_ : records_[more].less_recently_idle) = after_more;
    (less == no_index ? idle_back_ : records_[less].more_recently_idle) = before_less;
  }

  std::vector<worker_record> records_;
  std::size_t size_ = 0;
  std::size_t starting_ = 0;
  std::size_t leaving_ = 0;
  std::size_t spent_ = 0;
  std::size_t idle_count_ = 0;
  index_type idle_front_ = no_index;
  index_type idle_back_ = no_index;
  worker_id last_id_ = 0;
};

}  // namespace shmpool::sched
