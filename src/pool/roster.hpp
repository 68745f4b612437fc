// Which workers a turn of the loop has to look at: those with frames to send, those that have just been given tasks,
// those whose rings are polled, and those with something due. A turn costs nothing for all the others, however many
// there are.
//
// Thread safety: none; the engine's lock guards it. While a function visits workers, others may be added and removed.
#pragma once

#include "process/clock.hpp"
#include "sched/deadline_heap.hpp"

#include <cstddef>
#include <utility>
#include <vector>

namespace shmpool::pool {

class worker_channel;

class roster {
 public:
  using time_point = monotonic_clock::time_point;

  /// The lists that a worker is in.
  struct marks {
    roster* in = nullptr;  ///< while the roster knows the worker
    bool outgoing = false, busy = false, newly_busy = false, polled = false;
    time_point noted = time_point::max();  ///< due() takes the worker into account from here on
  };

  /// Takes a worker in and gives it a place, the lowest that no other worker has. Throws std::bad_alloc; nothing else
  /// here needs memory.
  void add(worker_channel& worker);
  /// The worker is over. Does nothing if the roster does not know it.
  void remove(worker_channel& worker) noexcept;

  /// The worker has frames to send. Called by the worker itself, so that none is forgotten.
  void has_frames(worker_channel& worker) noexcept;
  /// Calls `visit` with each worker that has got frames to send since the last call.
  template <class Visitor>
  void each_outgoing(Visitor visit);

  /// The worker was idle and has been given a task.
  void is_busy(worker_channel& worker) noexcept;
  /// Calls `visit` with each worker that has tasks: with all of them, or with those only that have become busy since
  /// the last call.
  template <class Visitor>
  void each_busy(bool all, Visitor visit);

  /// The worker's ring is polled from now on.
  void is_polled(worker_channel& worker) noexcept;
  /// Calls `visit` with each worker whose ring is polled.
  template <class Visitor>
  void each_polled(Visitor visit);
  /// No ring is polled any more.
  void end_polling() noexcept;

  /// Takes note of the worker's due(). To be called when that is earlier than marks.noted; see
  /// worker_channel::is_noted().
  void note_due(worker_channel& worker) noexcept;
  /// When to call each_due(): may be early, never late.
  time_point due() const noexcept { return dues_.earliest().value_or(time_point::max()); }
  /// Calls `visit` with each worker that may have something due. A worker for which `visit` throws stays due.
  template <class Visitor>
  void each_due(time_point now, Visitor visit);

 private:
  using list = std::vector<worker_channel*>;  // null: a worker that was removed

  /// Returns to the list of outgoing workers those that were not visited.
  struct unsent_stay {
    roster& of;
    ~unsent_stay();
  };
  struct none_is_due_now {
    roster& of;
    ~none_is_due_now() { of.due_now_.clear(); }
  };
  static void put(list& to, worker_channel& worker) noexcept;
  void forget_idle() noexcept;
  bool has_tasks(const worker_channel& worker) const noexcept;
  marks& marks_of(worker_channel& worker) const noexcept;

  list by_place_;
  list outgoing_, being_sent_, busy_, newly_busy_, polled_, due_now_;
  sched::deadline_heap dues_;  // by place: marks.noted, where it is not the end of time
};

template <class Visitor>
void roster::each_outgoing(Visitor visit) {
  if (outgoing_.empty()) return;
  being_sent_.swap(outgoing_);
  const unsent_stay guard{*this};
  for (worker_channel*& each : being_sent_) {  // which does not grow meanwhile
    if (!each) continue;
    worker_channel& worker = *std::exchange(each, nullptr);
    marks_of(worker).outgoing = false;
    visit(worker);
  }
}

template <class Visitor>
void roster::each_busy(bool all, Visitor visit) {
  if (!all && newly_busy_.empty()) return;
  if (all) forget_idle();
  const list& visited = all ? busy_ : newly_busy_;
  for (std::size_t i = 0; i != visited.size(); ++i) {
    if (visited[i] && has_tasks(*visited[i])) visit(*visited[i]);
  }
  for (worker_channel* const each : newly_busy_) {
    if (each) marks_of(*each).newly_busy = false;
  }
  newly_busy_.clear();
}

template <class Visitor>
void roster::each_polled(Visitor visit) {
  for (std::size_t i = 0; i != polled_.size(); ++i) {
    if (polled_[i]) visit(*polled_[i]);
  }
}

template <class Visitor>
void roster::each_due(time_point now, Visitor visit) {
  // Put off by the least step, so that the heap shows the next one, and a worker for which `visit` throws is due again.
  while (dues_.due(now) != sched::no_index) {
    due_now_.push_back(by_place_[dues_.first()]);
    dues_.set(dues_.first(), now + time_point::duration(1));
  }
  const none_is_due_now guard{*this};
  for (std::size_t i = 0; i != due_now_.size(); ++i) {
    if (!due_now_[i]) continue;
    visit(*due_now_[i]);
    if (due_now_[i]) note_due(*due_now_[i]);
  }
}

}  // namespace shmpool::pool
