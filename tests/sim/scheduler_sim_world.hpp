// One random world around a scheduler: workers that start or do not, run, reply, die at any point, heed a stop or
// ignore it; users that submit, cancel and close at any time; a clock that is read early and late. Its seed is the
// whole run.
#pragma once

#include "scheduler_sim_checks.hpp"
#include "scheduler_sim_model.hpp"

#include <algorithm>
#include <chrono>
#include <random>
#include <string>
#include <vector>

namespace shmpool::sched::sim {

using std::chrono::microseconds;
using std::chrono::milliseconds;

class world {
 public:
  world(std::uint64_t seed, std::string* trace)
      : random_(seed), trace_(trace), model_{choose_options(), chance(50)}, sched_(model_.settings, model_) {
    start_failures_ = chance(30) ? 30 : 0;
    only_tasks_kill_ = chance(30);
    unfit_ = chance(20) ? 20 : 0;
    if (only_tasks_kill_) start_failures_ = unfit_ = 0;
    crashers_ = chance(30) ? 50 : 0;
    deaths_ = chance(70) ? below(6) : 0;
    closes_ = chance(50);
    holds_ = chance(50);
    leavers_ = chance(40) ? 20 : 0;
    sched_.tick(told());  // starts what is the minimum
  }

  void run() {
    const unsigned steps = 40 + below(160);
    for (unsigned step = 0; step < steps && !model_.drained; ++step) {
      random_event();
      if (model_.batched && chance(40)) continue;
      settle();
    }
    settle();
    let_everything_run();
  }

 private:
  // ---- Chance.
  unsigned below(unsigned bound) { return static_cast<unsigned>(random_() % bound); }
  bool chance(unsigned percent) { return below(100) < percent; }

  options choose_options() {
    options out;
    out.max_workers = 1 + below(4);
    out.window = 1 + below(8);
    out.lookahead = microseconds{below(4) * 100};
    out.patience = microseconds{1 + below(2000)};
    out.cancel_grace = milliseconds{below(4) * 5};
    out.min_workers = chance(30) ? below(5) : 0;
    out.max_tasks_per_worker = chance(30) ? 1 + below(10) : 0;
    out.result_grace = milliseconds{1 + below(20)};
    out.leave_grace = milliseconds{1 + below(20)};
    out.max_pending = chance(30) ? 3 + below(20) : 0;
    out.max_pending_bytes = chance(30) ? 1 + below(5000) : 0;
    out.crash_limit = below(7);
    out.crash_window = milliseconds{10 + below(500)};
    out.broken_limit = chance(50) ? 1 + below(10) : 1000;
    out.unbegun_limit = 1 + below(4);
    out.patience_aside = milliseconds{1 + below(20)};
    out.quarantine_after = chance(20) ? 1 + below(4) : 0;
    out.quarantine_time = milliseconds{1 + below(50)};
    out.backoff = milliseconds{1 + below(50)};
    return out;
  }

  sim_worker* any_worker() {
    std::vector<sim_worker*> out;
    for (auto& [id, worker] : model_.workers) {
      if (!worker.dead) out.push_back(&worker);
    }
    return out.empty() ? nullptr : out[below(static_cast<unsigned>(out.size()))];
  }

  /// The time, for an event that the scheduler does something about.
  time_point told() { return model_.told = now_; }

  // ---- Events.
  void random_event() {
    const unsigned dice = below(1000);
    if (dice < 250) return submit();
    if (dice < 330) return cancel();
    if (dice < 430) return pass_time(microseconds{1 + below(chance(20) ? 20'000 : 500)});
    if (dice < 440) return lie();
    if (dice < 443 && closes_) return close();
    if (dice < 500) return proceed();
    if (sim_worker* worker = any_worker()) {
      if (chance(deaths_) && (!only_tasks_kill_ || worker->begun)) return die(*worker);
      if (worker->running && chance(crashers_)) return die(*worker);
      if (chance(leavers_)) return leave(*worker);
      if (chance(leavers_ / 4)) return outgrow(*worker);
      progress(*worker);
    }
  }

  void submit() {
    if (model_.closing || sched_.broken()) return;
    sim_task& task = model_.tasks.emplace_back();
    task.order = ++orders_;
    task.spec.handle = task_handle(task.order);
    if (chance(75)) task.spec.expected = microseconds{below(8) * 25};
    if (chance(50)) task.spec.kind = static_cast<std::uint32_t>(1 + below(3));
    if (chance(20)) task.spec.timeout = microseconds{1 + below(20'000)};
    if (chance(20)) task.spec.deadline = now_ + microseconds{1 + below(20'000)};
    if (chance(20)) task.spec.cancel_grace = milliseconds{below(4) * 5};
    if (chance(30)) task.spec.attempts = 1 + below(3);
    if (chance(20)) task.spec.warm_workers = random_();
    task.heeds_stop = chance(60);
    task.endless = chance(5);
    task.spec.bytes = below(2000);
    enter(task);
  }

  void enter(sim_task& task) {
    note((holds_ ? "hold " : "submit ") + std::to_string(task.order));
    const bool full = !holds_ && !model_.has_room();
    const bool refused = sched_.refuses(now_);
    require(!refused || model_.batched || (model_.suspended && !model_.probing), "refuses only while it is broken");
    const bool banned = !holds_ && !full && !refused && !sched_.admits(task.spec.kind, now_);
    require(!banned || model_.settings.quarantine_after != 0, "bans no kind unless it is asked to");
    const task_id id = banned   ? 0
                       : holds_ ? sched_.hold(task.spec.handle, task.spec.deadline, now_)
                                : sched_.submit(task.spec, now_);
    if (!model_.batched)
      require((id == 0) == (full || refused || banned),
              "refuses exactly what there is no room for, and what is banned");
    if (id != 0) {
      told();
      model_.probing = model_.suspended;
      model_.entered(task, id, holds_ ? sim_place::held : sim_place::inside);
    } else {
      model_.tasks.pop_back();
    }
  }

  /// The user submits, or cannot submit, what was admitted.
  void proceed() {
    for (sim_task& task : model_.tasks) {
      if (task.done || task.place != sim_place::admitted || chance(30)) continue;
      --model_.admitted;
      task.order = ++orders_;
      if (chance(15) || !sched_.admits(task.spec.kind, now_)) {
        note("withdraw " + std::to_string(task.order));
        task.done = true;
        --model_.pending;
        sched_.withdraw(task.id, told());
      } else {
        note("submit admitted " + std::to_string(task.order));
        task.place = sim_place::inside;
        model_.bytes += task.spec.bytes;
        const bool overdue = task.spec.deadline <= now_;
        task.must_be_done = task.must_be_done || task.ends_at_submit || overdue;
        if (!task.ends_at_submit && !overdue && !model_.closing && !sched_.refuses(now_))
          model_.probing = model_.suspended;
        sched_.submit(task.id, task.spec, told());
      }
      if (!model_.batched) settle();
    }
  }

  /// A worker has been idle for long. What was sent to it meanwhile it does not read.
  void leave(sim_worker& worker) {
    if (!worker.up || !worker.working() || worker.running || !worker.outbox.empty() || worker.lasting) return;
    note("leaves " + std::to_string(worker.id));
    worker.retiring = true;
    worker.leave_since = now_;
    sched_.worker_leaves(worker.id, told());
    require(worker.inbox.empty() || model_.batched, "takes back what a leaving worker has not started");
  }

  void outgrow(sim_worker& worker) {
    if (!worker.up || !worker.working()) return;
    note("outgrows " + std::to_string(worker.id));
    worker.outgrown = true;
    sched_.recycle(worker.id, told());
  }

  void cancel() {
    if (model_.tasks.empty()) return;
    const std::size_t newest = std::min<std::size_t>(model_.tasks.size(), 12);
    cancel(model_.tasks[model_.tasks.size() - 1 - below(static_cast<unsigned>(newest))],
           static_cast<cancel_kind>(below(3)));
  }

  void cancel(sim_task& task, cancel_kind kind) {
    note("cancel " + std::to_string(task.order) + " kind " + std::to_string(static_cast<int>(kind)));
    if (!task.done) {
      task.cancelled = true;
      if (task.place == sim_place::admitted) {
        task.ends_at_submit = true;
      } else if (!task.started) {
        task.must_be_done = true;
      } else if (kind != cancel_kind::total) {
        task.asked_to_stop = task.asked_to_stop || !task.stop_sent;
        if (kind == cancel_kind::terminal && !task.terminal_at) task.terminal_at = now_;
      }
    }
    sched_.cancel(task.id, kind, task.done ? now_ : told());
  }

  void pass_time(duration span) {
    now_ += span;
    if (chance(70)) tick(chance(20) ? now_ - span / 2 : now_);
  }

  void tick(time_point at) {
    note("tick " + std::to_string(at.time_since_epoch().count()));
    model_.told = at;
    model_.time_told(at);
    sched_.tick(at);
    const auto next = sched_.next_deadline();
    require(!next || *next > at, "what is due at a tick is done by it");
  }

  /// A worker claims a result that is not its own.
  void lie() {
    sim_worker* worker = any_worker();
    if (!worker || model_.tasks.empty()) return;
    const sim_task& task = model_.tasks[below(static_cast<unsigned>(model_.tasks.size()))];
    if (task.at == worker) return;
    require(!sched_.replied(worker->id, task.id, duration{}, now_), "a result of somebody else's task is refused");
    require(!sched_.replied(worker->id, random_() | 0x8000'0000'0000'0000U, duration{}, now_), "so is nonsense");
  }

  void close() {
    const unsigned how = below(3);
    note("close " + std::to_string(how));
    if (how == 0) {
      model_.closing = true;
      sched_.shutdown(told());
    } else if (how == 1) {
      model_.closing = model_.stopped = true;
      sched_.stop(told());
    } else {
      model_.broken = true;
      sched_.break_pool(told());
      require(sched_.broken(), "a pool that was broken is broken");
    }
  }

  /// One step in the life of a worker.
  void progress(sim_worker& worker) {
    if (!worker.ready) {
      if (worker.killed && chance(50)) return die(worker);
      if (chance(start_failures_)) return fail_to_start(worker);
      note("started " + std::to_string(worker.id));
      worker.ready = true;
      worker.stubborn = chance(10);
      model_.start_paused = false;
      sched_.worker_started(worker.id, told());
      worker.heard = now_;
    } else if ((worker.killed && chance(50)) || (worker.retiring && !worker.stubborn && chance(70))) {
      die(worker);
    } else if (!worker.up) {
      come_up(worker);
    } else if (!worker.outbox.empty() && chance(60)) {
      reply(worker);
    } else if (worker.running) {
      sim_task& task = *worker.running;
      if (task.endless && !(task.stop_sent && task.heeds_stop)) return;
      note("finish " + std::to_string(task.order));
      worker.outbox.push_back(&task);
      worker.running = nullptr;
    } else if (!worker.inbox.empty()) {
      note("start " + std::to_string(worker.inbox.front()->order) + " at " + std::to_string(worker.id));
      model_.starts(worker, now_);
    } else if (!worker.outbox.empty()) {
      reply(worker);
    }
  }

  void come_up(sim_worker& worker) {
    if (worker.working() && chance(unfit_)) {
      note("unfit " + std::to_string(worker.id));
      model_.lost(worker, true, now_);
      worker.retiring = true;
      worker.leave_since = now_;
      sched_.worker_unfit(worker.id, told());
      return;
    }
    note("up " + std::to_string(worker.id));
    if (worker.working()) model_.came_up(worker);
    worker.up = true;
    worker.up_since = now_;
    sched_.worker_ready(worker.id, told());
  }

  void reply(sim_worker& worker) {
    if (worker.outbox.size() > 1 && chance(10)) std::swap(worker.outbox.front(), worker.outbox.back());
    sim_task& task = *worker.outbox.front();
    worker.outbox.pop_front();
    note("reply " + std::to_string(task.order) + " from " + std::to_string(worker.id));
    // Always the same for a kind, so that the model need not know when in a batch it was learnt.
    const duration run = microseconds{task.spec.kind * 75};
    if (task.spec.kind != 0 && !task.done) model_.last_runs[task.spec.kind] = run;
    const bool known = sched_.replied(worker.id, task.id, run, told());
    // In a batch a stop may have ended the task, and the world is yet to hear of it.
    require(known || task.done || model_.batched, "the result of a task that runs is taken");
    require(!known || !task.done, "the result of a task that has ended is not");
    if (known) {
      worker.heard = model_.told;
      model_.replied(task);
    }
  }

  void die(sim_worker& worker) {
    while (!worker.outbox.empty()) {
      reply(worker);
      if (!model_.batched) settle();
    }
    const task_id running = worker.running ? worker.running->id : chance(50) ? 0 : random_();
    note("die " + std::to_string(worker.id) + (worker.running ? " running" : ""));
    model_.buried(worker, now_);
    sched_.worker_exited(worker.id, running, told());
  }

  void fail_to_start(sim_worker& worker) {
    note("start failed " + std::to_string(worker.id));
    const bool wanted = worker.working();
    worker.retiring = true;  // it never lived, so that its end is no death
    model_.buried(worker, now_);
    model_.start_failed = true;
    const auto alive = [](const auto& entry) { return entry.second.working(); };
    if (wanted) model_.pause_likely = model_.start_paused = true;
    if (wanted && !model_.batched && std::none_of(model_.workers.begin(), model_.workers.end(), alive)) {
      model_.probing = false;
      for (sim_task& task : model_.tasks) {
        task.must_be_done = task.must_be_done || (!task.at && task.place == sim_place::inside);
      }
    }
    sched_.worker_start_failed(worker.id, told());
  }

  void settle() {
    action next;
    while (sched_.next_action(next)) {
      note("  action " + std::to_string(static_cast<int>(next.what)) + " worker " + std::to_string(next.worker) +
           " task " + (next.handle == no_task ? "-" : std::to_string(static_cast<std::uint32_t>(next.handle))) +
           " why " + std::to_string(static_cast<int>(next.why)));
      model_.apply(next, now_);
    }
    if (model_.broken_promise) throw violation(model_.broken_promise);
    checks_.all();
    model_.start_failed = false;
    for (sim_task& task : model_.tasks) task.just_taken_back = false;
  }

  // ---- The end: nothing fails any more, and everything has to come to one.
  void let_everything_run() {
    start_failures_ = deaths_ = leavers_ = unfit_ = crashers_ = 0;
    sim_task* last = nullptr;
    for (unsigned rounds = 0; !model_.drained; ++rounds) {
      require(rounds < 5000, "everything comes to an end");
      if (model_.pending == 0 && !model_.closing && !model_.broken && !last) {
        // The cause of all deaths is gone: whatever was, the pool serves.
        if (sched_.refuses(now_)) now_ = sched_.count().next_start.value();
        last = &model_.tasks.emplace_back();
        last->order = ++orders_;
        last->spec.handle = task_handle(last->order);
        enter(*last);
        settle();
      } else if (model_.pending == 0 && !model_.closing) {
        model_.closing = true;
        sched_.shutdown(told());
        settle();
      }
      proceed();
      settle();
      for (auto& [id, worker] : model_.workers) {
        for (int turn = 0; turn < 4 && !worker.dead; ++turn) {
          if (worker.running && worker.running->endless && !worker.running->done) {
            if (!worker.running->doomed()) cancel(*worker.running, cancel_kind::terminal);
          }
          progress(worker);
          settle();
        }
      }
      if (const auto deadline = sched_.next_deadline()) {
        now_ = std::max(now_, *deadline);
        tick(now_);
        settle();
      }
    }
    for (const sim_task& task : model_.tasks) require(task.done, "every task completes");
    require(!last || last->why == failure::none, "a pool recovers when the cause is gone");
    require(!sched_.next_deadline(), "a drained pool waits for nothing");
  }

  void note(const std::string& what) {
    if (trace_) *trace_ += what + '\n';
  }

  std::mt19937_64 random_;
  std::string* trace_;
  time_point now_{std::chrono::hours{1}};
  model model_;
  scheduler sched_;
  checks checks_{model_, sched_};
  unsigned start_failures_ = 0;   ///< percent
  unsigned deaths_ = 0;           ///< percent of a worker's steps
  bool only_tasks_kill_ = false;  ///< workers die only in tasks, or after some
  unsigned crashers_ = 0;         ///< percent of a worker's steps in a task at which it dies
  unsigned unfit_ = 0;            ///< percent of workers that say that they cannot be set up
  bool closes_ = false;
  bool holds_ = false;    ///< submits wait for room
  unsigned leavers_ = 0;  ///< percent of a worker's steps at which it leaves, if it is idle
  std::uint64_t orders_ = 0;
};

}  // namespace shmpool::sched::sim
