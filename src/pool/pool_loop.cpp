#include "pool/pool_loop.hpp"

#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <cerrno>
#include <utility>

namespace shmpool::pool {

namespace {

/// An epoll instance that is readable when one of the two is; an empty one if the kernel makes none.
unique_fd wait_for_both(int first, int second) noexcept {
  unique_fd both(::epoll_create1(EPOLL_CLOEXEC));
  for (const int each : {first, second}) {
    epoll_event readable{};
    readable.events = EPOLLIN;
    if (both && ::epoll_ctl(both.get(), EPOLL_CTL_ADD, each, &readable) != 0) both.reset();
  }
  return both;
}

}  // namespace

pool_loop::pool_loop(backend which)
    : queue_(loop::make_completion_queue(which)),
      timer_(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) {
  if (!timer_) throw std::system_error(errno, std::system_category(), "shmpool: timerfd_create");
  if (bell_.to_hear() >= 0) both_ = wait_for_both(queue_->descriptor(), bell_.to_hear());
  if (!both_) bell_.give_up();
  watch_.what = loop::operation::kind::poll_in;
  watch_.fd = timer_.get();
}

void pool_loop::submit(time_point now) {
  if (is_lost()) return;
  refusal_ = queue_->submit();
  if (refusal_) refusals_.refused(now);
  else refusals_.accepted();
}

std::optional<std::string> pool_loop::given_up(time_point now) {
  if (!refusals_.is_over(now)) return std::nullopt;
  std::string why =
      std::string("the kernel refuses requests to wait for events (") + queue_->name() + "): " + refusal_.message();
  refusals_.give_up();
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
