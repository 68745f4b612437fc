// One random world around a scheduler: workers that start or do not, run, reply, die at any point, heed a stop or
// ignore it; users that submit, cancel and close at any time; a clock that is read early and late. Its seed is the
// whole run.
#pragma once

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
    deaths_ = chance(70) ? below(6) : 0;
    closes_ = chance(50);
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
    out.cancel_grace = milliseconds{below(4) * 5};
    out.max_pending = chance(30) ? 3 + below(20) : 0;
    out.crash_limit = below(7);
    out.crash_window = milliseconds{10 + below(500)};
    out.broken_limit = chance(30) ? 3 + below(10) : 1000;
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

  // ---- Events.
  void random_event() {
    const unsigned dice = below(1000);
    if (dice < 250) return submit();
    if (dice < 330) return cancel();
    if (dice < 430) return pass_time(microseconds{1 + below(chance(20) ? 20'000 : 500)});
    if (dice < 440) return lie();
    if (dice < 443 && closes_) return close();
    if (sim_worker* worker = any_worker()) {
      if (chance(deaths_)) return die(*worker);
      progress(*worker);
    }
  }

  void submit() {
    if (model_.closing || sched_.broken()) return;
    sim_task& task = model_.tasks.emplace_back();
    task.order = model_.tasks.size();
    task.spec.context = &task;
    if (chance(75)) task.spec.expected = microseconds{below(8) * 25};
    if (chance(20)) task.spec.timeout = microseconds{1 + below(20'000)};
    if (chance(30)) task.spec.attempts = 1 + below(3);
    if (chance(20)) task.spec.warm_workers = random_();
    task.heeds_stop = chance(60);
    task.endless = chance(5);
    note("submit " + std::to_string(task.order));
    const bool full = model_.settings.max_pending != 0 && model_.pending >= model_.settings.max_pending;
    const task_id id = sched_.submit(task.spec, now_);
    if (!model_.batched) require((id == 0) == full, "refuses exactly what is beyond max_pending");
    if (id != 0) {
      model_.submitted(task, id);
    } else {
      model_.tasks.pop_back();
    }
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
      if (!task.started) {
        task.must_be_done = true;
      } else if (kind != cancel_kind::total) {
        task.asked_to_stop = task.asked_to_stop || !task.stop_sent;
        if (kind == cancel_kind::terminal && !task.terminal_at) task.terminal_at = now_;
      }
    }
    sched_.cancel(task.id, kind, now_);
  }

  void pass_time(duration span) {
    now_ += span;
    if (chance(70)) tick(chance(20) ? now_ - span / 2 : now_);
  }

  void tick(time_point at) {
    note("tick " + std::to_string(at.time_since_epoch().count()));
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
      sched_.shutdown(now_);
    } else if (how == 1) {
      model_.closing = model_.stopped = true;
      sched_.stop(now_);
    } else {
      model_.broken = true;
      sched_.break_pool(now_);
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
      sched_.worker_started(worker.id, now_);
    } else if ((worker.killed && chance(50)) || (worker.retiring && chance(70))) {
      die(worker);
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

  void reply(sim_worker& worker) {
    if (worker.outbox.size() > 1 && chance(10)) std::swap(worker.outbox.front(), worker.outbox.back());
    sim_task& task = *worker.outbox.front();
    worker.outbox.pop_front();
    note("reply " + std::to_string(task.order) + " from " + std::to_string(worker.id));
    const bool known = sched_.replied(worker.id, task.id, microseconds{1}, now_);
    // In a batch a stop may have ended the task, and the world is yet to hear of it.
    require(known || task.done || model_.batched, "the result of a task that runs is taken");
    require(!known || !task.done, "the result of a task that has ended is not");
    if (known) model_.replied(task);
  }

  void die(sim_worker& worker) {
    while (!worker.outbox.empty()) {
      reply(worker);
      if (!model_.batched) settle();
    }
    const task_id running = worker.running ? worker.running->id : chance(50) ? 0 : random_();
    note("die " + std::to_string(worker.id) + (worker.running ? " running" : ""));
    model_.buried(worker, now_);
    sched_.worker_exited(worker.id, running, now_);
    note_broken();
  }

  void fail_to_start(sim_worker& worker) {
    note("start failed " + std::to_string(worker.id));
    const std::uint64_t deaths = model_.deaths;
    const std::size_t fruitless = model_.fruitless;
    const std::vector<time_point> times = model_.death_times;
    model_.buried(worker, now_);
    model_.deaths = deaths;  // it never lived
    model_.fruitless = fruitless;
    model_.death_times = times;
    model_.start_failed = true;
    const auto alive = [](const auto& entry) {
      return !entry.second.dead && !entry.second.retiring && !entry.second.killed;
    };
    if (!worker.retiring && !worker.killed && !model_.batched &&
        std::none_of(model_.workers.begin(), model_.workers.end(), alive)) {
      for (sim_task& task : model_.tasks) task.must_be_done = task.must_be_done || !task.at;
    }
    sched_.worker_start_failed(worker.id, now_);
  }

  void note_broken() {
    if (!sched_.broken() || model_.broken) return;
    require(model_.fruitless >= model_.settings.broken_limit, "breaks only after broken_limit deaths in a row");
    model_.broken = true;
  }

  // ---- Checks.
  void settle() {
    action next;
    while (sched_.next_action(next)) {
      note("  action " + std::to_string(static_cast<int>(next.what)) + " worker " + std::to_string(next.worker) +
           " task " + (next.context ? std::to_string(static_cast<sim_task*>(next.context)->order) : "-") + " why " +
           std::to_string(static_cast<int>(next.why)));
      model_.apply(next, now_);
    }
    if (model_.broken_promise) throw violation(model_.broken_promise);
    check();
    model_.start_failed = false;
    for (sim_task& task : model_.tasks) task.just_taken_back = false;
  }

  void check() {
    std::size_t queued = 0;
    const sim_task* head = nullptr;
    const auto deadline = sched_.next_deadline();
    for (const sim_task& task : model_.tasks) {
      if (task.done) continue;
      require(!task.must_be_done, "what is cancelled before it started, or cannot start, ends at once");
      require(!model_.stopped && !model_.broken, "nothing outlives stop and break");
      if (!task.at) {
        ++queued;
        if (!head) head = &task;
      } else if (!task.at->killed && task.started) {
        // One that was asked to stop may be overdue by now, and the world cannot tell.
        if (task.spec.timeout > duration::zero() && !task.stop_sent && !task.terminal_at) {
          require(deadline && *deadline <= task.started_at + task.spec.timeout, "looks at an overdue task in time");
        }
        if (task.terminal_at) {
          require(deadline && *deadline <= *task.terminal_at + model_.settings.cancel_grace, "kills in time");
        }
        if (task.doomed()) require(deadline.has_value(), "a doomed task has a deadline");
      }
    }
    const counts counted = sched_.count();
    require(counted.queued == queued && counted.assigned == model_.pending - queued, "counts tasks right");
    require(counted.workers == model_.alive, "counts workers right");
    require(model_.batched || counted.deaths == model_.deaths, "counts deaths right");
    require(!(model_.closing && model_.pending == 0 && model_.alive == 0) || model_.drained, "drains when all is gone");
    if (!model_.batched) check_shares();
    if (!head) return;
    require(model_.alive == model_.settings.max_workers || deadline, "waits for a worker or for a time");
    for (const auto& [id, worker] : model_.workers) {
      if (worker.dead || worker.retiring || worker.killed) continue;
      require(worker.load() != 0, "no task waits while a worker is idle");
      require(!has_room(worker, head->spec), "no task waits while a busy worker has room for it");
    }
  }

  /// Nothing waits behind another task at one worker while somebody else could run it.
  void check_shares() {
    bool idle = false;
    bool idle_and_ready = false;
    bool crowded = false;
    bool to_be_shared = false;
    for (const auto& [id, worker] : model_.workers) {
      if (!worker.usable()) continue;
      idle = idle || worker.load() == 0;
      idle_and_ready = idle_and_ready || (worker.load() == 0 && worker.ready);
      crowded = crowded || (worker.load() > 1 && !worker.inbox.empty());
      to_be_shared = to_be_shared || (worker.load() > (worker.ready ? 1U : 0U) && !worker.inbox.empty());
    }
    require(!idle_and_ready || !to_be_shared, "an idle worker takes its share");
    require(idle || !crowded || model_.alive == model_.settings.max_workers || sched_.next_deadline(),
            "a worker is started for what waits behind others");
  }

  bool has_room(const sim_worker& worker, const task_spec& task) const {
    const duration lookahead = model_.settings.lookahead;
    if (!task.expected || *task.expected > lookahead || worker.load() >= model_.settings.window) return false;
    bool plain = worker.usable();
    duration all{};
    duration longest{};
    worker.each([&](const sim_task& other) {
      plain = plain && other.spec.expected && *other.spec.expected <= lookahead &&
              other.spec.timeout == duration::zero();  // partial, then overdue: doomed, and the model cannot tell
      if (!plain) return;
      all += *other.spec.expected;
      longest = std::max(longest, *other.spec.expected);
    });
    // Which one counts as running is the scheduler's to know; with none taken off, there is room in any case.
    return plain && all + *task.expected <= lookahead;
  }

  // ---- The end: nothing fails any more, and everything has to come to one.
  void let_everything_run() {
    start_failures_ = deaths_ = 0;
    for (unsigned rounds = 0; !model_.drained; ++rounds) {
      require(rounds < 5000, "everything comes to an end");
      if (model_.pending == 0 && !model_.closing) {
        model_.closing = true;
        sched_.shutdown(now_);
        settle();
      }
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
  unsigned start_failures_ = 0;  ///< percent
  unsigned deaths_ = 0;          ///< percent of a worker's steps
  bool closes_ = false;
};

}  // namespace shmpool::sched::sim
