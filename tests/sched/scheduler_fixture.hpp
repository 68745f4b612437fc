// Drives the scheduler by hand: tasks are named by a word, the clock moves when a test says so, and what the scheduler
// decides reads as a line of text such as "start W1, assign a W1".
#pragma once

#include "sched/scheduler.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace shmpool::sched {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// Slots as the workers would mark them: a test says which tasks have started.
class fake_claims final : public claims {
 public:
  bool take_back(worker_id worker, task_id task) noexcept override {
    asked_.insert({worker, task});
    return !started_.contains(task);
  }
  std::optional<time_point> start_time(worker_id, task_id task, time_point) noexcept override {
    const auto found = started_.find(task);
    if (found == started_.end()) return std::nullopt;
    return found->second;
  }
  void start(task_id task, time_point when) { started_[task] = when; }
  void forget(task_id task) { started_.erase(task); }
  bool was_asked_for(worker_id worker, task_id task) const { return asked_.contains({worker, task}); }

 private:
  std::map<task_id, time_point> started_;
  std::set<std::pair<worker_id, task_id>> asked_;
};

inline task_spec quick(duration expected = microseconds{10}) {
  task_spec out;
  out.expected = expected;
  return out;
}

inline task_spec slow() {
  return task_spec{};
}

/// Nothing is known of it but that others of the same kind run as long.
inline task_spec of_kind(std::uint32_t kind) {
  task_spec out;
  out.kind = kind;
  return out;
}

inline task_spec limited(duration timeout) {
  task_spec out;
  out.timeout = timeout;
  return out;
}

inline task_spec repeatable(unsigned attempts) {
  task_spec out;
  out.attempts = attempts;
  return out;
}

class scheduler_test : public ::testing::Test {
 protected:
  scheduler& sched() {
    if (!scheduler_) scheduler_ = std::make_unique<scheduler>(settings, slots);
    return *scheduler_;
  }

  task_handle handle_of(const std::string& name) {
    const auto place = std::find(names_.begin(), names_.end(), name) - names_.begin();
    if (static_cast<std::size_t>(place) == names_.size()) names_.push_back(name);
    return task_handle(place);
  }
  std::string name_of(task_handle handle) const {
    return handle == no_task ? "" : names_.at(static_cast<std::size_t>(handle));
  }
  task_id submit(const std::string& name, task_spec task = slow()) {
    task.handle = handle_of(name);
    return ids[name] = sched().submit(task, now);
  }
  task_id hold(const std::string& name) { return ids[name] = sched().hold(handle_of(name), now); }
  void submit_admitted(const std::string& name, task_spec task = slow()) {
    task.handle = handle_of(name);
    sched().submit(ids.at(name), task, now);
  }
  bool reply(worker_id worker, const std::string& name, duration run = microseconds{1}) {
    slots.forget(ids.at(name));
    return sched().replied(worker, ids.at(name), run, now);
  }
  void started(worker_id worker) { sched().worker_started(worker, now); }
  void up(worker_id worker) {
    started(worker);
    sched().worker_ready(worker, now);
  }
  void run(const std::string& name) { slots.start(ids.at(name), now); }
  void cancel(const std::string& name, cancel_kind kind) { sched().cancel(ids.at(name), kind, now); }
  /// The worker dies; `running` is the task that it had started, if any.
  void die(worker_id worker, const std::string& running = "") {
    const task_id task = running.empty() ? 0 : ids.at(running);
    slots.forget(task);
    sched().worker_exited(worker, task, now);
  }
  void pass(duration time) {
    now += time;
    sched().tick(now);
  }
  /// Brings up `count` workers, numbered from 1, the last of them most recently idle.
  void bring_up(unsigned count) {
    for (unsigned i = 1; i <= count; ++i) submit("warm-up " + std::to_string(i));
    actions();
    for (unsigned i = 1; i <= count; ++i) started(i);
    for (unsigned i = 1; i <= count; ++i) ASSERT_TRUE(reply(i, "warm-up " + std::to_string(i)));
    ASSERT_EQ(actions(), "");
  }

  std::string actions() {
    std::string out;
    action next;
    while (sched().next_action(next)) out += (out.empty() ? "" : ", ") + text(next);
    return out;
  }

  std::string text(const action& what) const {
    const std::string worker = "W" + std::to_string(what.worker);
    const std::string task = name_of(what.handle);
    switch (what.what) {
      case action::kind::start_worker: return "start " + worker;
      case action::kind::admit: return "admit " + task;
      case action::kind::assign: return "assign " + task + " " + worker;
      case action::kind::request_stop: return "stop " + task + " " + worker;
      case action::kind::retire_worker: return "retire " + worker;
      case action::kind::kill_worker: return "kill " + worker;
      case action::kind::complete:
        return task + " " + text(what.why) + (what.worker ? " " + worker : "") + (what.begun ? "" : " unbegun");
      case action::kind::drained: return "drained";
    }
    return "?";
  }
  static std::string text(failure why) {
    switch (why) {
      case failure::none: return "none";
      case failure::cancelled: return "cancelled";
      case failure::deadline_exceeded: return "deadline_exceeded";
      case failure::worker_lost: return "worker_lost";
      case failure::worker_start_failed: return "worker_start_failed";
      case failure::pool_broken: return "pool_broken";
      case failure::quarantined: return "quarantined";
      case failure::pool_stopped: return "pool_stopped";
    }
    return "?";
  }

  options settings;
  fake_claims slots;
  time_point now{seconds{1000}};
  std::map<std::string, task_id> ids;

 private:
  std::vector<std::string> names_;  // a task's handle is its name's place here
  std::unique_ptr<scheduler> scheduler_;
};

}  // namespace shmpool::sched
