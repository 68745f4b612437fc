// Tasks and workers as the simulated world has them, whatever the scheduler believes.
#pragma once

#include "sched/scheduler.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <stdexcept>

namespace shmpool::sched::sim {

struct violation : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void require(bool holds, const char* promise) {
  if (!holds) throw violation(promise);
}

struct sim_worker;

enum class sim_place : std::uint8_t {
  inside,    ///< the scheduler has all of it
  held,      ///< it waits for room
  admitted,  ///< it was told that there is room, and has yet to be submitted
};

struct sim_task {
  task_spec spec;
  sim_place place = sim_place::inside;
  task_id id = 0;
  std::uint64_t order = 0;
  sim_worker* at = nullptr;  ///< the worker it was sent to; null: the scheduler has it
  bool done = false;
  bool started = false;  ///< at this worker
  time_point started_at{};
  unsigned starts = 0;
  worker_id lost_with = 0;      ///< the last worker that died running it, or about to
  unsigned unbegun_deaths = 0;  ///< of workers that were to begin it next, each started after the one before had died
  worker_id unbegun_until = 0;
  failure why = failure::none;  ///< how it was completed, if its result was not
  bool heeds_stop = false;
  bool endless = false;                   ///< ends only if it heeds a stop
  bool cancelled = false;                 ///< by any kind
  bool asked_to_stop = false;             ///< by the user, partial or terminal, while it ran
  std::optional<time_point> terminal_at;  ///< when the user cancelled it terminally while it ran
  bool stop_sent = false;
  bool assigned_in_batch = false;
  bool just_taken_back = false;
  bool must_be_done = false;    ///< it was cancelled when it had not started
  bool ends_at_submit = false;  ///< the same, when it was admitted

  bool overdue(time_point now) const {
    return spec.deadline <= now || (started && spec.timeout > duration::zero() && started_at + spec.timeout <= now);
  }
  /// When a run that has begun is overdue; the end of time if never.
  time_point due() const {
    return spec.timeout > duration::zero() ? std::min(spec.deadline, started_at + spec.timeout) : spec.deadline;
  }
  /// Its worker is to be killed for it: by the user's wish, or since it was told to stop without one.
  bool doomed() const { return terminal_at || (stop_sent && !asked_to_stop); }
};

struct sim_worker {
  worker_id id = 0;
  bool ready = false;
  bool up = false;     ///< it has set itself up, and said so
  bool begun = false;  ///< a task
  time_point up_since{};
  bool retiring = false;  ///< told to leave, or leaves of its own accord
  bool killed = false;
  bool dead = false;
  bool outgrown = false;
  bool stubborn = false;     ///< leaves only when it is killed
  bool lasting = false;      ///< does not leave for being idle
  time_point leave_since{};  ///< while retiring
  time_point heard{};        ///< when it replied last, or was given a task when it had none, at the earliest
  unsigned given = 0;        ///< tasks sent to it and not taken back
  unsigned starts = 0;
  std::deque<sim_task*> inbox;  ///< sent to it, not started
  sim_task* running = nullptr;
  std::deque<sim_task*> outbox;  ///< finished, reply under way

  std::size_t load() const { return inbox.size() + outbox.size() + (running ? 1U : 0U); }
  template <class F>
  void each(F visit) const {
    for (sim_task* task : outbox) visit(*task);
    if (running) visit(*running);
    for (sim_task* task : inbox) visit(*task);
  }
  bool working() const { return !retiring && !killed && !dead; }
  bool doomed() const {
    bool found = false;
    each([&](const sim_task& task) { found = found || task.doomed(); });
    return found;
  }
};

}  // namespace shmpool::sched::sim
