#include "pool/worker_life.hpp"

#include "process/assert.hpp"

#include <sys/wait.h>

#include <csignal>
#include <limits>

namespace shmpool::pool {

void worker_life::told_to_server() noexcept {
  if (process_ == process::untold) process_ = process::asked;
}

void worker_life::spawned(pid_t number) noexcept {
  pid_ = number;
  seen_ = true;
  process_ = process::there;
  if (stage_ == stage::asked) stage_ = stage::alive;
}

void worker_life::process_ended(time_point now) noexcept {
  SHMPOOL_ASSERT(process_ == process::there);
  process_ = process::ended;
  if (!server_gone_) status_due_ = now + status_patience;
}

void worker_life::exit_status(int wait_status, std::uint64_t max_rss_bytes,
                              std::chrono::microseconds cpu_time) noexcept {
  wait_status_ = wait_status;
  max_rss_bytes_ = max_rss_bytes;
  cpu_time_ = cpu_time;
}

worker_life::orphaned worker_life::server_lost() noexcept {
  if (is_untold()) {
    if (stage_ != stage::leaving) return orphaned::wanted;
    process_ = process::ended;  // do not start a worker only to end it
    return orphaned::over;
  }
  server_gone_ = true;
  status_due_.reset();
  if (seen_) return orphaned::killed;
  process_ = process::ended;  // it may never have existed; if it did, it dies with the server
  return orphaned::over;
}

void worker_life::no_server() noexcept {
  if (!seen_) process_ = process::ended;
}

void worker_life::told_pid(std::uint64_t number) noexcept {
  if (pid_ == 0 && number <= std::uint64_t{std::numeric_limits<pid_t>::max()}) pid_ = static_cast<pid_t>(number);
}

void worker_life::unfit() noexcept {
  unfit_ = true;
  if (stage_ != stage::ended) stage_ = stage::leaving;
}

void worker_life::may_leave(worker_exit::reason why) noexcept {
  if (stage_ != stage::asked && stage_ != stage::alive) return;
  stage_ = stage::leaving;
  exit_reason_ = why;
}

worker_life::killer worker_life::kill(const char* why) noexcept {
  if (stage_ == stage::ended) return killer::nobody;
  if (!killed_because_) killed_because_ = why;
  stage_ = stage::leaving;
  return seen_ ? killer::signal : killer::server;
}

worker_life::killer worker_life::kill_for_task(const char* why) noexcept {
  // A worker that was told to leave keeps that reason, even if it is late.
  if (!was_asked_to_leave()) exit_reason_ = worker_exit::reason::killed;
  return kill(why);
}

worker_life::killer worker_life::kill_as_useless(const char* why) noexcept {
  exit_reason_ = worker_exit::reason::killed;
  return kill(why);
}

worker_life::killer worker_life::violated(const char* what) {
  violation_ = "worker " + std::to_string(pid_) + " was killed: " + what;
  return kill_as_useless("it broke the protocol");
}

bool worker_life::died_by_pool() const noexcept {
  const bool by_kill = !wait_status_ || signal() == SIGKILL;
  return by_kill && (killed_because_ != nullptr || server_gone_);
}

int worker_life::signal() const noexcept {
  return wait_status_ && WIFSIGNALED(*wait_status_) ? WTERMSIG(*wait_status_) : 0;
}

int worker_life::exit_code() const noexcept {
  return wait_status_ && !WIFSIGNALED(*wait_status_) ? WEXITSTATUS(*wait_status_) : 0;
}

std::string worker_life::describe_death() const {
  if (!violation_.empty()) return violation_;
  if (killed_because_) return std::string("killed by the pool: ") + killed_because_;
  if (!wait_status_) return "nobody could learn how it ended";
  if (signal() != 0) return "killed by signal " + std::to_string(signal());
  return "exit code " + std::to_string(exit_code());
}

}  // namespace shmpool::pool
