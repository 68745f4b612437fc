// What may happen, written down a second time: tasks and workers as the world sees them, fed by the actions that the
// scheduler emits. It shares no code with the scheduler and throws `violation` when the two disagree.
#pragma once

#include "scheduler_sim_parts.hpp"

#include "sched/scheduler.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace shmpool::sched::sim {

class model final : public claims {
 public:
  model(const options& chosen, bool batches) : settings(chosen), batched(batches) {}

  bool take_back(worker_id worker, task_id id) noexcept override {
    sim_task* task = find(id);
    if (!task || task->done || !task->at || task->at->id != worker) {
      broken_promise = "asks only about tasks that were sent to that worker";
      return false;
    }
    auto& inbox = task->at->inbox;
    const auto place = std::find(inbox.begin(), inbox.end(), task);
    if (place == inbox.end()) return false;
    inbox.erase(place);
    --task->at->given;
    task->at = nullptr;
    task->just_taken_back = true;
    return true;
  }

  std::optional<time_point> start_time(worker_id worker, task_id id, time_point) noexcept override {
    const sim_task* task = find(id);
    if (!task || task->done || !task->at || task->at->id != worker) {
      broken_promise = "asks only about tasks that were sent to that worker";
      return std::nullopt;
    }
    return task->started ? std::optional(task->started_at) : std::nullopt;
  }

  sim_task* find(task_id id) noexcept {
    const auto found = by_id_.find(id);
    return found == by_id_.end() ? nullptr : found->second;
  }

  /// A new task that is inside, or held.
  void entered(sim_task& task, task_id id, sim_place place) {
    require(id != 0 && by_id_.emplace(id, &task).second, "ids are never 0 and never used twice");
    task.id = id;
    task.place = place;
    ++pending;
    if (place == sim_place::held) ++held;
    else bytes += task.spec.bytes;
  }

  bool has_room() const {
    const bool for_tasks = settings.max_pending == 0 || pending - held < settings.max_pending;
    return for_tasks && (settings.max_pending_bytes == 0 || (bytes < settings.max_pending_bytes && admitted == 0));
  }

  duration grace(const sim_task& task) const { return task.spec.cancel_grace.value_or(settings.cancel_grace); }

  /// The scheduler was told of a time, and has to have acted on what was due by then.
  void time_told(time_point at) {
    for (sim_task& task : tasks) {
      if (task.done || task.id == 0 || task.spec.deadline > at) continue;
      if (task.place == sim_place::admitted) task.ends_at_submit = true;
      else if (!task.started) task.must_be_done = true;
    }
  }

  bool spent(const sim_worker& worker) const {
    const unsigned limit = settings.max_tasks_per_worker;
    return worker.working() && (worker.outgrown || (limit != 0 && worker.given >= limit));
  }
  bool usable(const sim_worker& worker) const { return worker.working() && !worker.doomed() && !spent(worker); }
  template <class Is>
  std::size_t count(Is is) const {
    return static_cast<std::size_t>(
        std::count_if(workers.begin(), workers.end(), [&](const auto& entry) { return is(entry.second); }));
  }
  /// Workers that have tasks.
  std::size_t busy() const {
    return count([](const sim_worker& each) { return !each.dead && each.load() != 0; });
  }
  /// Workers that are to stay.
  std::size_t staff() const {
    return count([&](const sim_worker& each) { return each.working() && !spent(each); });
  }
  /// Whether nothing has been heard of it for so long that it must be running a task that takes longer than expected.
  bool stuck(const sim_worker& worker) const { return worker.heard + settings.patience <= told; }
  /// Whether one more worker could be started, if no pause forbids it.
  bool may_grow() const { return staff() < settings.max_workers && alive < std::size_t{2} * settings.max_workers; }

  void starts(sim_worker& worker, time_point now) {
    sim_task& task = *worker.inbox.front();
    require(!task.done || worker.killed, "a task that has ended does not run");
    ++worker.starts;
    require(settings.max_tasks_per_worker == 0 || worker.starts <= settings.max_tasks_per_worker,
            "a worker runs no more tasks than it may");
    worker.inbox.pop_front();
    worker.running = &task;
    worker.begun = true;
    task.started = true;
    task.started_at = now;
    require(++task.starts <= task.spec.attempts, "a task starts no more often than its attempts allow");
  }

  /// The worker's end as the world sees it, before the scheduler is told. Its outbox is empty.
  void buried(sim_worker& worker, time_point now) {
    worker.dead = true;
    if (!worker.killed && !worker.retiring) {
      ++deaths;
      if (worker.running) {
        served(worker);
        if (const auto kind = worker.running->spec.kind; kind != 0) {
          ++kills[kind];
          risk[kind] += (256 - risk[kind]) / 8;
        }
      } else if (worker.up && !worker.inbox.empty()) {
        sim_task& next = *worker.inbox.front();
        if (worker.id > next.unbegun_until) {
          ++next.unbegun_deaths;
          next.unbegun_until = workers.rbegin()->first;
        }
        next.lost_with = worker.id;
        if (worker.begun) served(worker);
      } else if (worker.begun) {
        served(worker);
      } else {
        lost(worker, false, now);
      }
    }
    if (worker.running) worker.running->lost_with = worker.id;
    worker.each([](sim_task& task) {
      task.at = nullptr;
      task.started = false;
    });
    worker.inbox.clear();
    worker.running = nullptr;
    --alive;
  }

  void apply(const action& what, time_point now) {
    sim_task* task = what.task ? find(what.task) : nullptr;
    if (what.task) {
      require(task && !task->done, "no action names a task that is forgotten");
      require(what.handle == task->spec.handle, "an action hands back the handle of its task");
    }
    sim_worker* worker = nullptr;
    if (what.worker && what.what != action::kind::complete && what.what != action::kind::start_worker) {
      require(workers.contains(what.worker) && !workers[what.worker].dead,
              "no action names a worker that is forgotten");
      worker = &workers[what.worker];
    }
    switch (what.what) {
      case action::kind::start_worker: start_worker(what, now); break;
      case action::kind::admit: admit(*task); break;
      case action::kind::assign: assign(*task, *worker); break;
      case action::kind::request_stop:
        require(task->at == worker, "stops a task where it is");
        require(!task->stop_sent, "asks a task to stop once");
        require(task->asked_to_stop || task->overdue(now), "asks a task to stop for a reason");
        task->stop_sent = true;
        break;
      case action::kind::retire_worker:
        require(!worker->killed && (!worker->retiring || batched), "retires a worker once");
        require(worker->load() == 0, "retires a worker that has no task");
        require((closing && pending == 0) || spent(*worker) || batched,
                "retires workers when all is done, or they have done all");
        if (!closing && !batched) {
          require(staff() != 0 || workers.rbegin()->first > worker->id || !may_grow() || may_hold_back(),
                  "starts a replacement before it retires a worker");
        }
        worker->retiring = true;
        worker->leave_since = now;
        break;
      case action::kind::kill_worker: kill(*worker, now); break;
      case action::kind::complete: complete(*task, what, now); break;
      case action::kind::drained:
        require(!drained, "drains once");
        require(closing && pending == 0 && alive == 0, "drains when nothing is left");
        drained = true;
        break;
    }
  }

  void replied(sim_task& task) {
    served(*task.at);
    if (const auto kind = task.spec.kind; kind != 0) {
      kills[kind] = 0;
      risk[kind] -= (risk[kind] + 7) / 8;
    }
    task.at = nullptr;
    ended(task);
  }

  // ---- What there is to say of the pool: workers that end before they had a task, in rounds of those that were
  // started in spite of the one before.

  void lost(const sim_worker& worker, bool certain, time_point now) {
    pause_likely = true;
    if (worker.up && now - worker.up_since >= settings.crash_window) return served(worker);
    if (worker.id <= last_of_round) return;
    last_of_round = workers.rbegin()->first;
    round_at = now;
    rounds = certain ? settings.broken_limit : std::min(rounds + 1, settings.broken_limit);
    const bool somebody =
        count([&](const sim_worker& each) { return each.id != worker.id && each.working() && each.up; }) != 0;
    if (rounds < settings.broken_limit || somebody) return;
    suspended = true;
    probing = false;
  }
  void came_up(const sim_worker& worker) {
    if (worker.id <= last_of_round) return;
    suspended = probing = false;
    rounds = std::min({rounds, settings.crash_limit, settings.broken_limit - 1});
  }
  void served(const sim_worker& worker) {
    if (worker.id <= last_of_round) return;
    suspended = probing = false;
    rounds = 0;
  }
  /// Whether others go first.
  bool risky(const sim_task& task) const {
    const auto known = risk.find(task.spec.kind);
    return known != risk.end() && known->second > 64;
  }
  bool on_probation() const { return rounds > settings.crash_limit || rounds >= settings.broken_limit; }
  bool awaits_proof() const {
    return count([](const sim_worker& each) { return each.working() && !each.up; }) != 0;
  }
  /// Whether there is a reason not to start a worker now although one is wanted. That tasks crash is none.
  bool may_hold_back() const { return pause_likely && (suspended || start_paused || on_probation() || batched); }

  void ended(sim_task& task) {
    task.done = true;
    --pending;
    if (task.place == sim_place::held) --held;
    if (task.place == sim_place::inside) bytes -= task.spec.bytes;
  }

  options settings;
  time_point told{};  ///< the time of the last event
  bool batched;       ///< several events before the actions are fetched: some checks of one event's effect do not apply
  bool closing = false;
  bool stopped = false;
  bool broken = false;
  bool drained = false;
  bool start_failed = false;  ///< in this batch
  bool pause_likely = false;  ///< some worker died before it had a task, or could not be started
  bool start_paused = false;  ///< one could not be started, and none has been since
  unsigned rounds = 0;
  worker_id last_of_round = 0;
  time_point round_at{};
  bool suspended = false;  ///< nobody is up, and what comes is refused ...
  bool probing = false;    ///< ... unless one worker is being tried
  std::size_t pending = 0;
  std::size_t held = 0;      ///< of these
  std::size_t admitted = 0;  ///< of these
  std::uint64_t bytes = 0;
  std::size_t alive = 0;
  std::uint64_t deaths = 0;
  std::deque<sim_task> tasks;
  std::map<std::uint32_t, duration> last_runs;    // by kind
  time_point last_aside{};                        ///< when a task of a kind that kills often was handed out
  std::map<std::uint32_t, unsigned> risk, kills;  // by kind; kills since one has ended well
  std::map<worker_id, sim_worker> workers;
  const char* broken_promise = nullptr;

 private:
  void start_worker(const action& what, time_point now) {
    const worker_id id = what.worker;
    require(id != 0 && (workers.empty() || workers.rbegin()->first < id), "worker ids are never used twice");
    const bool missing = staff() < settings.min_workers;
    if (!batched) {
      require(what.lasting == missing, "says which workers are the minimum");
      require(may_grow(), "never more workers than max_workers, but for those that leave");
      const bool leaving = count([&](const sim_worker& each) { return spent(each); }) != 0;
      require(pending != 0 || missing || leaving, "starts workers only for tasks, or in the place of others");
    }
    require(++alive <= std::size_t{2} * settings.max_workers, "never more than twice max_workers at once");
    if (!batched && on_probation()) {
      require(now >= round_at + settings.backoff, "backs off while no worker comes up");
      require(!awaits_proof(), "tries with one worker at a time then");
      require(!suspended || probing, "tries only for a task once it is broken");
    }
    workers[id].id = id;
    workers[id].lasting = what.lasting;
  }

  void admit(sim_task& task) {
    require(task.place == sim_place::held, "admits what is held");
    require(has_room() || batched, "admits when there is room");
    for (const sim_task& other : tasks) {
      require(other.done || other.place != sim_place::held || other.order >= task.order, "admits the oldest first");
    }
    task.place = sim_place::admitted;
    --held;
    ++admitted;
  }

  void assign(sim_task& task, sim_worker& worker) {
    require(!task.at, "a task is at one worker at a time");
    require(task.starts < task.spec.attempts, "no more attempts than allowed");
    require(!task.cancelled || task.starts == 0 || !task.stop_sent, "a task that was told to stop is not tried again");
    require(!worker.retiring && !worker.killed, "no task for a worker that was told to go");
    require(!worker.doomed(), "no task for a worker that is about to be killed");
    require(!spent(worker), "no task for a worker that has had all of its tasks");
    require(worker.load() != 0 || busy() < settings.max_workers, "no more than max_workers run tasks at once");
    require(worker.load() < std::max(settings.window, 1U), "no more than window tasks at one worker");
    // In a batch it may have been learnt since this was decided.
    if (const auto known = last_runs.find(task.spec.kind);
        known != last_runs.end() && !task.spec.expected && !batched && !risky(task)) {
      task.spec.expected = known->second;
    }
    const auto is_short = [&](const sim_task& which) {
      if (which.spec.expected) return *which.spec.expected <= settings.lookahead;
      const auto known = last_runs.find(which.spec.kind);
      return known != last_runs.end() && known->second <= settings.lookahead && (batched || which.assigned_in_batch);
    };
    task.assigned_in_batch = batched;
    if (worker.load() != 0) {
      require(is_short(task), "long tasks wait behind nothing");
      worker.each([&](const sim_task& other) { require(is_short(other), "nothing waits behind long tasks"); });
    }
    if (!batched && !task.just_taken_back) {
      bool others_wait = false;
      for (const sim_task& other : tasks) {
        if (other.done || other.at || other.id == 0 || other.just_taken_back || other.place != sim_place::inside)
          continue;
        others_wait = others_wait || (!risky(other) && other.id != task.id);
        const bool in_line = risky(task) ? task.spec.kind == other.spec.kind : !risky(other);
        require(other.order >= task.order || !in_line,
                "first come, first served, and of those that kill often for each kind");
      }
      if (risky(task)) {
        require(!others_wait || told >= last_aside + settings.patience_aside,
                "others need not wait for tasks that kill often");
        last_aside = told;
      }
    }
    // In a batch it may have had another one when this was decided, which was taken back since.
    if (worker.load() == 0 && !batched) worker.heard = told;
    require(batched || !stuck(worker), "hands nothing over behind a task that takes longer than expected");
    task.at = &worker;
    task.started = false;
    ++worker.given;
    worker.inbox.push_back(&task);
  }

  void kill(sim_worker& worker, time_point now) {
    require(!worker.killed, "kills a worker once");
    if (!stopped && !broken && !batched && !worker.retiring && worker.running) {
      const bool waited = std::any_of(worker.outbox.begin(), worker.outbox.end(), [&](const sim_task* task) {
        const time_point doomed_at = task->terminal_at ? *task->terminal_at : task->due();
        return doomed_at != time_point::max() && doomed_at + grace(*task) + settings.result_grace <= now;
      });
      require(worker.running->doomed() || worker.running->overdue(now) || waited,
              "does not kill a task for one that is done");
    }
    bool reason = stopped || broken || batched || (suspended && !worker.up);
    reason = reason || (worker.retiring && worker.leave_since + settings.leave_grace <= now);
    worker.each([&](const sim_task& task) {
      reason = reason || (task.terminal_at && *task.terminal_at + grace(task) <= now);
      reason = reason || (task.stop_sent && task.due() != time_point::max() && task.due() + grace(task) <= now);
    });
    require(reason, "kills for a reason, and not before the grace is over");
    worker.killed = true;
  }

  void complete(sim_task& task, const action& what, time_point now) {
    const bool all_end = stopped || broken;
    task.why = what.why;
    const bool banned = settings.quarantine_after != 0 && kills[task.spec.kind] >= settings.quarantine_after;
    require(!task.at || all_end, "a task that its worker may still run is not completed");
    switch (what.why) {
      case failure::none: require(false, "a completion has a reason"); break;
      case failure::cancelled:
        require(task.cancelled, "only what was cancelled is cancelled");
        require(task.starts == 0 || task.asked_to_stop || task.must_be_done, "total does not end a running task");
        break;
      case failure::deadline_exceeded:
        require(task.spec.deadline <= now ||
                    (task.spec.timeout > duration::zero() && task.starts != 0 && (task.stop_sent || batched)),
                "overdue tasks only");
        break;
      case failure::worker_lost:
        require(what.begun ? task.starts == task.spec.attempts || banned || batched
                           : task.unbegun_deaths >= settings.unbegun_limit || batched,
                "lost only when no attempt is left, or too many workers have died that were to begin it");
        require(what.worker != 0 && what.worker == task.lost_with, "says which worker died");
        break;
      case failure::worker_start_failed: require(start_failed, "a start has failed"); break;
      case failure::pool_broken: require(broken || suspended || batched, "the pool is broken"); break;
      case failure::quarantined: require(banned || batched, "its kind has killed often"); break;
      case failure::pool_stopped: require(stopped, "the pool was stopped"); break;
    }
    require(task.place != sim_place::admitted, "does not complete what is about to be submitted");
    ended(task);
  }

  std::unordered_map<task_id, sim_task*> by_id_;
};

}  // namespace shmpool::sched::sim
