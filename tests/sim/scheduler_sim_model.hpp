// What may happen, written down a second time: tasks and workers as the world sees them, fed by the actions that the
// scheduler emits. It shares no code with the scheduler and throws `violation` when the two disagree.
#pragma once

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

struct violation : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void require(bool holds, const char* promise) {
  if (!holds) throw violation(promise);
}

struct sim_worker;

struct sim_task {
  task_spec spec;
  task_id id = 0;
  std::uint64_t order = 0;
  sim_worker* at = nullptr;  ///< the worker it was sent to; null: the scheduler has it
  bool done = false;
  bool started = false;  ///< at this worker
  time_point started_at{};
  unsigned starts = 0;
  worker_id lost_with = 0;  ///< the last worker that died running it
  bool heeds_stop = false;
  bool endless = false;                   ///< ends only if it heeds a stop
  bool cancelled = false;                 ///< by any kind
  bool asked_to_stop = false;             ///< by the user, partial or terminal, while it ran
  std::optional<time_point> terminal_at;  ///< when the user cancelled it terminally while it ran
  bool stop_sent = false;
  bool just_taken_back = false;
  bool must_be_done = false;  ///< it was cancelled when it had not started

  bool overdue(time_point now) const {
    return started && spec.timeout > duration::zero() && started_at + spec.timeout <= now;
  }
  /// Its worker is to be killed for it: by the user's wish, or since it was told to stop without one.
  bool doomed() const { return terminal_at || (stop_sent && !asked_to_stop); }
};

struct sim_worker {
  worker_id id = 0;
  bool ready = false;
  bool retiring = false;
  bool killed = false;
  bool dead = false;
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
  bool usable() const {
    bool free_of_doom = true;
    each([&](const sim_task& task) { free_of_doom = free_of_doom && !task.doomed(); });
    return !retiring && !killed && !dead && free_of_doom;
  }
};

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
    task->at = nullptr;
    task->just_taken_back = true;
    return true;
  }

  std::optional<time_point> started(worker_id worker, task_id id) noexcept override {
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

  void submitted(sim_task& task, task_id id) {
    require(id != 0 && by_id_.emplace(id, &task).second, "ids are never 0 and never used twice");
    task.id = id;
    ++pending;
  }

  void starts(sim_worker& worker, time_point now) {
    sim_task& task = *worker.inbox.front();
    require(!task.done || worker.killed, "a task that has ended does not run");
    worker.inbox.pop_front();
    worker.running = &task;
    task.started = true;
    task.started_at = now;
    require(++task.starts <= task.spec.attempts, "a task starts no more often than its attempts allow");
  }

  /// The worker's end as the world sees it, before the scheduler is told. Its outbox is empty.
  void buried(sim_worker& worker, time_point now) {
    worker.dead = true;
    if (!worker.killed && !worker.retiring) {
      ++deaths;
      ++fruitless;
      death_times.push_back(now);
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
      require(what.context == task, "an action hands back the context of its task");
    }
    sim_worker* worker = nullptr;
    if (what.worker && what.what != action::kind::complete && what.what != action::kind::start_worker) {
      require(workers.contains(what.worker) && !workers[what.worker].dead,
              "no action names a worker that is forgotten");
      worker = &workers[what.worker];
    }
    switch (what.what) {
      case action::kind::start_worker:
        start_worker(what.worker, now);
        break;
      case action::kind::assign:
        assign(*task, *worker);
        break;
      case action::kind::request_stop:
        require(task->at == worker, "stops a task where it is");
        require(!task->stop_sent, "asks a task to stop once");
        require(task->asked_to_stop || task->overdue(now), "asks a task to stop for a reason");
        task->stop_sent = true;
        break;
      case action::kind::retire_worker:
        require(closing && worker->load() == 0 && pending == 0, "retires workers when all is done");
        require(!worker->killed && !worker->retiring, "retires a worker once");
        worker->retiring = true;
        break;
      case action::kind::kill_worker:
        kill(*worker, now);
        break;
      case action::kind::complete:
        complete(*task, what);
        break;
      case action::kind::drained:
        require(!drained, "drains once");
        require(closing && pending == 0 && alive == 0, "drains when nothing is left");
        drained = true;
        break;
    }
  }

  void replied(sim_task& task) {
    task.done = true;
    task.at = nullptr;
    --pending;
    fruitless = 0;
  }

  options settings;
  bool batched;  ///< several events before the actions are fetched: some checks of one event's effect do not apply
  bool closing = false;
  bool stopped = false;
  bool broken = false;
  bool drained = false;
  bool start_failed = false;  ///< in this batch
  std::size_t pending = 0;
  std::size_t alive = 0;
  std::uint64_t deaths = 0;
  std::size_t fruitless = 0;
  std::vector<time_point> death_times;
  std::deque<sim_task> tasks;
  std::map<worker_id, sim_worker> workers;
  const char* broken_promise = nullptr;

 private:
  void start_worker(worker_id id, time_point now) {
    require(id != 0 && (workers.empty() || workers.rbegin()->first < id), "worker ids are never used twice");
    require(++alive <= settings.max_workers, "never more than max_workers at once");
    require(pending != 0 || batched, "starts workers only for tasks");
    if (!batched && !death_times.empty()) {
      const time_point last = death_times.back();
      const auto recent = std::count_if(death_times.begin(), death_times.end(),
                                        [&](time_point at) { return last - at <= settings.crash_window; });
      const bool looping = static_cast<std::size_t>(recent) > settings.crash_limit;
      require(!looping || now >= last + settings.backoff, "backs off in a crash loop");
    }
    workers[id].id = id;
  }

  void assign(sim_task& task, sim_worker& worker) {
    require(!task.at, "a task is at one worker at a time");
    require(task.starts < task.spec.attempts, "no more attempts than allowed");
    require(!task.cancelled || task.starts == 0 || !task.stop_sent, "a task that was told to stop is not tried again");
    require(!worker.retiring && !worker.killed, "no task for a worker that was told to go");
    require(worker.usable(), "no task for a worker that is about to be killed");
    require(worker.load() < std::max(settings.window, 1U), "no more than window tasks at one worker");
    if (worker.load() != 0) {
      require(task.spec.expected && *task.spec.expected <= settings.lookahead, "long tasks wait behind nothing");
      worker.each([&](const sim_task& other) {
        require(other.spec.expected && *other.spec.expected <= settings.lookahead, "nothing waits behind long tasks");
      });
    }
    if (!batched && !task.just_taken_back) {
      for (const sim_task& other : tasks) {
        if (other.order >= task.order) break;
        require(other.done || other.at || other.id == 0 || other.just_taken_back, "first come, first served");
      }
    }
    task.at = &worker;
    task.started = false;
    worker.inbox.push_back(&task);
  }

  void kill(sim_worker& worker, time_point now) {
    require(!worker.killed, "kills a worker once");
    bool reason = stopped || broken || batched;
    worker.each([&](const sim_task& task) {
      reason = reason || (task.terminal_at && *task.terminal_at + settings.cancel_grace <= now);
      reason = reason || (task.stop_sent && task.started_at + task.spec.timeout + settings.cancel_grace <= now &&
                          task.spec.timeout > duration::zero());
    });
    require(reason, "kills for a reason, and not before the grace is over");
    worker.killed = true;
  }

  void complete(sim_task& task, const action& what) {
    const bool all_end = stopped || broken;
    require(!task.at || all_end, "a task that its worker may still run is not completed");
    switch (what.why) {
      case failure::none:
        require(false, "a completion has a reason");
        break;
      case failure::cancelled:
        require(task.cancelled, "only what was cancelled is cancelled");
        require(task.starts == 0 || task.asked_to_stop || task.must_be_done, "total does not end a running task");
        break;
      case failure::deadline_exceeded:
        require(task.spec.timeout > duration::zero() && task.starts != 0 && (task.stop_sent || batched),
                "overdue tasks only");
        break;
      case failure::worker_lost:
        require(task.starts == task.spec.attempts, "lost only when no attempt is left");
        require(what.worker != 0 && what.worker == task.lost_with, "says which worker died");
        break;
      case failure::worker_start_failed:
        require(start_failed, "a start has failed");
        break;
      case failure::pool_broken:
        require(broken, "the pool is broken");
        break;
      case failure::pool_stopped:
        require(stopped, "the pool was stopped");
        break;
    }
    task.done = true;
    --pending;
  }

  std::unordered_map<task_id, sim_task*> by_id_;
};

}  // namespace shmpool::sched::sim
