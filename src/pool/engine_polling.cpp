// How the parent hears of replies without the kernel: it looks at the rings of its workers again and again, between the
// handlers of the user's loop, while it is awake anyway (several handlers are due) or while polling is cheaper than to
// sleep and be woken. Workers that know that it looks send nothing.
#include "pool/pool_engine.hpp"

namespace shmpool::pool {

std::chrono::nanoseconds pool_engine::spin_time() const noexcept {
  const sched::counts now = scheduler_->count();
  const unsigned busy = now.workers - now.idle_workers - now.leaving_workers;
  return busy < cpus_ ? std::chrono::nanoseconds(options_.spin)
                      : std::chrono::nanoseconds::zero();  // this thread needs one
}

void pool_engine::plan_polling(clock::time_point now) {
  if (scheduler_->count().assigned == 0) return;  // poll() ends it
  const auto spin = spin_time();
  if (!polling_.load(std::memory_order_relaxed)) {
    spinning_ = spin > spin.zero() && spin_.begin();
    if (!spinning_ && !completed_.has_several()) return;
    polling_.store(true, std::memory_order_release);
    poll_found_ = false;
  }
  poll_until_ = spinning_ ? now + spin : now;
}

bool pool_engine::poll() {
  if (made_here_.inherited()) return false;
  std::lock_guard lock(mutex_);
  if (closed_) return false;
  submit_time_.reset();
  bool found = false;
  guarded([&] {
    const auto now = clock::now();
    found = look(now);
    if (!found && (now >= poll_until_ || scheduler_->count().assigned == 0)) found = end_polling(now);
    if (!found) return;
    arm_timer_for_links();
    cycle(now);
  });
  return found;
}

void pool_engine::stop_polling() {
  if (made_here_.inherited()) return;
  std::lock_guard lock(mutex_);
  if (closed_) return;
  guarded([this] {
    end_polling(clock::now());
    // Nobody may come to deliver what that has found but drain().
    drain_wanted_ = true;
    arm_timer();
    submit_to_loop();
  });
}

/// Takes in what the rings have that are polled.
bool pool_engine::look(clock::time_point now) {
  collect_polled();
  return look_at_polled(now);
}

void pool_engine::collect_polled() {
  polled_.clear();
  for (const auto& [id, each] : links_) {
    if (each->polled() && each->state != worker_channel::stage::gone) polled_.push_back(each.get());
  }
}

bool pool_engine::look_at_polled(clock::time_point now) {
  bool found = false;
  for (std::size_t i = 0; i != polled_.size();
       ++i) {  // what they have said may start a worker, for which room is made here
    worker_channel* const each = polled_[i];
    if (each->state == worker_channel::stage::gone || !each->violation.empty() || !take_from_ring(*each, now)) continue;
    found = true;
    run_actions(now);
  }
  if (found) {
    poll_found_ = true;
    if (spinning_) spin_.found();
  }
  return found;
}

bool pool_engine::end_polling(clock::time_point now) {
  if (!polling_.exchange(false, std::memory_order_release)) return false;
  if (spinning_ && !poll_found_) spin_.missed();
  collect_polled();
  for (worker_channel* each : polled_) each->set_polled(false);
  return look_at_polled(now);  // what they have not sent because they were looked at
}

}  // namespace shmpool::pool
