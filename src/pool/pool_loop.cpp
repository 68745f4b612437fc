#include "pool/pool_loop.hpp"

#include <sys/timerfd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace shmpool::pool {

pool_loop::pool_loop(backend which)
    : queue_(loop::make_completion_queue(which)),
      timer_(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) {
  if (!timer_) throw std::system_error(errno, std::system_category(), "shmpool: timerfd_create");
  watch_.what = loop::operation::kind::poll_in;
  watch_.fd = timer_.get();
}

void pool_loop::submit() {
  if (lost_) return;
  refusal_ = queue_->submit();
  if (!refusal_) refused_since_.reset();
  else if (!refused_since_) refused_since_ = monotonic_clock::now();
}

std::chrono::milliseconds pool_loop::retry_after(time_point now) const noexcept {
  using std::chrono::milliseconds;
  if (!refused_since_) return {};
  const auto waited = std::chrono::duration_cast<milliseconds>(now - *refused_since_);
  return std::clamp<milliseconds>(waited / 4, milliseconds(1), milliseconds(50));
}

std::optional<std::string> pool_loop::given_up(time_point now) {
  if (!refused_since_ || now - *refused_since_ < patience) return std::nullopt;
  std::string why =
      std::string("the system does not take what is to be waited for (") + queue_->name() + "): " + refusal_.message();
  refused_since_.reset();
  lost_ = true;
  return why;
}

bool pool_loop::wake_at(time_point due) {
  if (wanted_) due = time_point::min();
  if (due < due_) {  // a timer that is early does no harm
    due_ = due;
    set_timer(timer_.get(), due);
  }
  // Also restarts the wait if the timer was set anew after it had expired and before the wait was reaped.
  if (due_ == time_point::max() || watch_.pending) return false;
  queue_->start(watch_);
  return true;
}

void pool_loop::expired() noexcept {
  if (take_expiry(timer_.get(), due_)) due_ = time_point::max();
}

bool pool_loop::is_due(time_point now) noexcept {
  if (now < due_) return false;
  due_ = time_point::max();
  return true;
}

}  // namespace shmpool::pool
