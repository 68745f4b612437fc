// Counts rounds of workers that died before they had a task, and failed starts.
#include "sched/crash_monitor.hpp"

#include "sched/deadline_heap.hpp"

#include <chrono>
#include <limits>

namespace shmpool::sched {

namespace {

duration longest_pause(const options& settings) noexcept {
  return std::max<duration>(settings.backoff, std::chrono::seconds{2});
}

}  // namespace

crash_monitor::crash_monitor(const options& settings)
    : settings_(settings), next_pause_(settings.backoff), next_start_pause_(settings.backoff) {
  if (settings_.broken_limit == 0) settings_.broken_limit = std::numeric_limits<unsigned>::max();
}

crash_monitor::verdict crash_monitor::lost(const loss& what, time_point now) {
  if (what.lived && *what.lived >= settings_.crash_window) {  // it could be kept alive; what ended it came from outside
    served(what.worker);
    return verdict::carry_on;
  }
  if (what.worker <= last_known_) return now < resume_ ? verdict::back_off : verdict::carry_on;
  last_known_ = what.latest;
  rounds_ = what.certain ? settings_.broken_limit : std::min(rounds_ + 1, settings_.broken_limit);
  if (!on_probation()) return verdict::carry_on;
  resume_ = later(now, next_pause_);
  next_pause_ = std::min(2 * next_pause_, longest_pause(settings_));
  if (rounds_ < settings_.broken_limit || what.others_up) return verdict::back_off;
  broken_ = true;
  probing_ = false;
  return verdict::give_up;
}

void crash_monitor::came_up(worker_id worker) noexcept {
  if (worker <= last_known_) return;
  broken_ = probing_ = false;
  rounds_ = std::min({rounds_, settings_.crash_limit, settings_.broken_limit - 1});  // it may still die early
}

void crash_monitor::served(worker_id worker) noexcept {
  if (worker <= last_known_) return;
  broken_ = probing_ = false;
  rounds_ = 0;
  resume_ = time_point::min();
  next_pause_ = settings_.backoff;
}

void crash_monitor::start_failed(time_point now) {
  start_resume_ = std::max(start_resume_, later(now, next_start_pause_));
  next_start_pause_ = std::min(2 * next_start_pause_, longest_pause(settings_));
}

void crash_monitor::forget_failed_starts() noexcept {
  start_resume_ = time_point::min();
  next_start_pause_ = settings_.backoff;
}

pool_health crash_monitor::health() const noexcept {
  if (broken_) return pool_health::broken;
  return on_probation() || start_resume_ != time_point::min() ? pool_health::failing : pool_health::healthy;
}

}  // namespace shmpool::sched
