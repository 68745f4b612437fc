// What must hold between two events: the scheduler's counts are those of the world, nothing is left undone that could
// be done, and whatever is to happen at a time has a deadline. Throws `violation`.
#pragma once

#include "scheduler_sim_model.hpp"

#include <algorithm>
#include <utility>

namespace shmpool::sched::sim {

class checks {
 public:
  checks(const model& world, const scheduler& tested) : model_(world), sched_(tested) {}

  void all() {
    std::size_t queued = 0;
    const sim_task* head = nullptr;
    const auto deadline = sched_.next_deadline();
    for (const sim_task& task : model_.tasks) {
      if (task.done || task.place == sim_place::admitted) continue;
      require(!task.must_be_done, "what is cancelled before it started, or cannot start, ends at once");
      require(!model_.stopped && !model_.broken, "nothing outlives stop and break");
      require(!model_.suspended || model_.probing || task.at || model_.batched,
              "nothing waits for workers that do not come up");
      if (!task.started && task.spec.deadline != time_point::max()) {
        require(deadline && *deadline <= task.spec.deadline, "looks at a task that waits when its deadline comes");
      }
      if (task.place == sim_place::held) continue;
      if (!task.at) {
        ++queued;
        const auto place = [this](const sim_task& each) { return std::pair(model_.risky(each), each.order); };
        if (!head || place(task) < place(*head)) head = &task;
      } else if (!task.at->killed && task.started) {
        // One that was asked to stop may be overdue by now, and the world cannot tell.
        if (task.due() != time_point::max() && !task.stop_sent && !task.terminal_at) {
          require(deadline && *deadline <= task.due(), "looks at an overdue task in time");
        }
        if (task.terminal_at && task.at->running == &task) {
          require(deadline && *deadline <= *task.terminal_at + model_.grace(task), "kills in time");
        }
        if (task.doomed()) require(deadline.has_value(), "a doomed task has a deadline");
      }
    }
    const counts counted = sched_.count();
    queued += model_.admitted;
    require(counted.queued == queued && counted.assigned == model_.pending - model_.held - queued &&
                counted.held == model_.held && counted.bytes == model_.bytes,
            "counts tasks right");
    require(counted.workers == model_.alive, "counts workers right");
    require(counted.leaving_workers ==
                model_.count([](const sim_worker& each) { return !each.dead && (each.retiring || each.killed); }),
            "counts workers that leave right");
    require(model_.held == 0 || !model_.has_room() || model_.batched, "holds nothing back when there is room");
    for (const auto& [id, worker] : model_.workers) {
      if (worker.dead || worker.killed || !worker.retiring) continue;
      require(deadline && *deadline <= worker.leave_since + model_.settings.leave_grace, "looks after who is to leave");
    }
    if (!model_.batched && !model_.closing && !model_.broken) {
      require(model_.staff() >= std::min(model_.settings.min_workers, model_.settings.max_workers) ||
                  !model_.may_grow() || model_.may_hold_back(),
              "keeps the minimum of workers");
    }
    require(model_.batched || counted.deaths == model_.deaths, "counts deaths right");
    require(!(model_.closing && model_.pending == 0 && model_.alive == 0) || model_.drained, "drains when all is gone");
    if (!model_.batched) {
      check_health(counted);
      check_shares();
      check_stranded();
    }
    if (!head) return;
    const bool wide = model_.busy() >= model_.settings.max_workers;
    require(
        wide || !model_.may_grow() || deadline || (model_.on_probation() && model_.awaits_proof()) || model_.batched,
        "waits for a worker or for a time");
    require(wide || !model_.may_grow() || model_.may_hold_back(),
            "tasks that crash delay nobody by more than a replacement takes");
    for (const auto& [id, worker] : model_.workers) {
      if (!worker.working() || model_.spent(worker)) continue;
      require(worker.load() != 0 || wide, "no task waits while a worker is idle");
      // In a batch it is not known when one was found to kill often.
      if (model_.batched && !model_.risk.empty()) continue;
      require(!has_room(worker, head->spec), "no task waits while a busy worker has room for it");
    }
  }

 private:
  /// The pool is broken exactly when workers cannot be kept alive before they have a task.
  void check_health(const counts& counted) {
    if (model_.broken) return require(counted.health == pool_health::lost, "is lost when it was broken for good");
    require((counted.health == pool_health::broken) == model_.suspended, "is broken only when nobody comes up");
    require(counted.health == pool_health::healthy || model_.pause_likely, "tasks that crash do not make a pool fail");
    require(counted.health != pool_health::broken || counted.next_start, "says when it tries again");
    const bool refuses = sched_.refuses(model_.told);
    require(!refuses || (model_.suspended && !model_.probing),
            "refuses tasks only while it is broken and nobody tries");
    require(!refuses || (*counted.next_start > model_.told &&
                         *counted.next_start - model_.told <=
                             std::max<duration>(model_.settings.backoff, std::chrono::seconds{2})),
            "tries again soon");
  }

  /// Nothing waits behind another task at one worker while somebody else could run it.
  void check_shares() {
    bool idle = false;
    bool idle_and_ready = false;
    bool crowded = false;
    bool to_be_shared = false;
    for (const auto& [id, worker] : model_.workers) {
      if (!model_.usable(worker)) continue;
      idle = idle || worker.load() == 0;
      idle_and_ready = idle_and_ready || (worker.load() == 0 && worker.ready);
      crowded = crowded || (worker.load() > 1 && !worker.inbox.empty());
      to_be_shared = to_be_shared || (worker.load() > (worker.ready ? 1U : 0U) && !worker.inbox.empty());
    }
    const bool wide = model_.busy() >= model_.settings.max_workers;
    require(!idle_and_ready || !to_be_shared || wide, "an idle worker takes its share");
    require(idle || !crowded || wide || !model_.may_grow() || model_.may_hold_back(),
            "a worker is started for what waits behind others");
  }

  /// Nothing waits behind a task that takes longer than expected while somebody else has room for it.
  void check_stranded() {
    const bool wide = model_.busy() >= model_.settings.max_workers;
    for (const auto& [id, worker] : model_.workers) {
      if (!model_.usable(worker) || !model_.stuck(worker) || worker.load() < 2 || worker.inbox.empty()) continue;
      for (const auto& [other_id, other] : model_.workers) {
        if (other_id == id || !model_.usable(other)) continue;
        require((other.load() != 0 || wide) && !has_room(other, worker.inbox.back()->spec),
                "a task that takes longer than expected strands nothing that others have room for");
      }
    }
  }

  bool has_room(const sim_worker& worker, const task_spec& task) const {
    const duration lookahead = model_.settings.lookahead;
    if (worker.load() == 0) return false;  // it is there to take the place of another one
    if (model_.stuck(worker)) return false;
    if (!task.expected || *task.expected > lookahead || worker.load() >= model_.settings.window) return false;
    bool plain = model_.usable(worker);
    duration all{};
    duration longest{};
    worker.each([&](const sim_task& other) {
      plain = plain && other.spec.expected && *other.spec.expected <= lookahead &&
              other.due() == time_point::max();  // partial, then overdue: doomed, and the model cannot tell
      if (!plain) return;
      all += *other.spec.expected;
      longest = std::max(longest, *other.spec.expected);
    });
    // Which one counts as running is the scheduler's to know; with none taken off, there is room in any case.
    return plain && all + *task.expected <= lookahead;
  }

  const model& model_;
  const scheduler& sched_;
};

}  // namespace shmpool::sched::sim
