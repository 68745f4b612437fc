// Counts deaths on a clock that stops during pauses, and failed starts on the plain one.
#include "sched/crash_monitor.hpp"

#include "sched/deadline_heap.hpp"

#include <chrono>

namespace shmpool::sched {

crash_monitor::crash_monitor(const options& settings)
    : settings_(settings), next_crash_pause_(settings.backoff), next_start_pause_(settings.backoff) {
}

crash_monitor::verdict crash_monitor::died(time_point now) {
  ++deaths_;
  const time_point at = awake_time(now);
  recent_.push_back(at);
  std::erase_if(recent_, [&](time_point death) { return at - death > settings_.crash_window; });
  // More than this no rule asks about; without the bound a limit of "never" would remember every death of a long storm.
  const std::size_t asked = std::max<std::size_t>(std::size_t{settings_.crash_limit} + 1, settings_.broken_limit);
  if (recent_.size() > asked) recent_.erase(recent_.begin());

  if (settings_.broken_limit != 0 && recent_.size() >= settings_.broken_limit) return verdict::give_up;
  if (recent_.size() <= settings_.crash_limit) {
    next_crash_pause_ = settings_.backoff;
    return verdict::carry_on;
  }
  begin_crash_pause(now);
  return verdict::back_off;
}

void crash_monitor::start_failed(time_point now) {
  start_resume_ = std::max(start_resume_, later(now, next_start_pause_));
  next_start_pause_ = std::min(2 * next_start_pause_, longest_pause());
}

void crash_monitor::forget_failed_starts() noexcept {
  start_resume_ = time_point::min();
  next_start_pause_ = settings_.backoff;
}

time_point crash_monitor::awake_time(time_point now) const noexcept {
  const duration in_pause =
      now > crash_pause_.begin ? std::min(now, crash_pause_.end) - crash_pause_.begin : duration{};
  return now - paused_before_ - in_pause;
}

void crash_monitor::begin_crash_pause(time_point now) {
  // Workers that were alive already may die during a pause. The part of it that has passed is closed, the rest goes on.
  if (now > crash_pause_.begin) paused_before_ += std::min(now, crash_pause_.end) - crash_pause_.begin;
  crash_pause_.begin = now;
  crash_pause_.end = std::max(crash_pause_.end, later(now, next_crash_pause_));
  next_crash_pause_ = std::min(2 * next_crash_pause_, longest_pause());
}

duration crash_monitor::longest_pause() const noexcept {
  return std::max<duration>(settings_.backoff, std::chrono::seconds{2});
}

}  // namespace shmpool::sched
