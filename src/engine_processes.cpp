// What becomes of the worker processes: what the fork server reports, how a dead worker is accounted for, and what happens
// when the fork server itself dies.
#include "engine.hpp"

#include "wire/fd_passing.hpp"
#include "worker/fork_server.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace shmpool::detail {

namespace {

const char* name_of(std::uint32_t call) noexcept {
  switch (static_cast<wire::failed_call>(call)) {
    case wire::failed_call::fork: return "fork";
    case wire::failed_call::pidfd_open: return "pidfd_open";
    case wire::failed_call::receive_descriptors: return "recvmsg of descriptors in the fork server";
  }
  return "the fork server";
}

}  // namespace

void pool_engine::watch_server() {
  server_watch_.what = loop::operation::kind::poll_in;
  server_watch_.fd = server_.get();
  server_watch_.owner = this;
  queue_->start(server_watch_);
}

void pool_engine::on_server_readable(clock::time_point now) {
  for (;;) {
    wire::server_message message;
    std::vector<unique_fd> fds;
    const ssize_t received =
        wire::receive_with_fds(server_.get(), std::as_writable_bytes(std::span(&message, 1)), fds, MSG_DONTWAIT);
    if (received == -EAGAIN || ((received == -ENOMEM || received == -ENOBUFS) && server_may_recover(now))) break;
    server_failing_since_.reset();
    if (received == -EMFILE) {
      // The descriptor of a new worker could not be taken in: it cannot be controlled, so it has to go.
      if (link* about = find(message.worker); about && message.type == wire::server_message_type::spawned) {
        kill(*about);
        start_failed(*about, "recvmsg of a worker's pidfd: " + std::system_category().message(EMFILE), now);
        run_actions(now);
      }
      continue;
    }
    if (received != sizeof message) return on_server_lost(now);
    on_server_message(message, fds.empty() ? unique_fd() : std::move(fds.front()), now);
    run_actions(now);
  }
  queue_->start(server_watch_);
}

void pool_engine::on_server_message(const wire::server_message& message, unique_fd descriptor, clock::time_point now) {
  link* const about = find(message.worker);
  server_attempts_ = 0;
  if (!about || about->state == link::stage::gone) return;
  switch (message.type) {
    case wire::server_message_type::spawned:
      worker::server_works();
      about->pid = message.pid;
      about->process = std::move(descriptor);
      about->exit_watch.fd = about->process.get();
      queue_->start(about->exit_watch);
      if (about->state == link::stage::starting) about->state = link::stage::running;
      scheduler_->worker_started(about->id, now);
      break;
    case wire::server_message_type::spawn_failed:
      --workers_started_;
      start_failed(*about, std::string(name_of(message.call)) + ": " + std::system_category().message(message.status), now);
      break;
    case wire::server_message_type::exited:
      about->wait_status = message.status;
      about->max_rss_bytes = message.max_rss_bytes;
      check_exits(now);
      break;
    default: break;
  }
}

/// The fork server is dead, and with it all workers (they die with their parent). A program that called init gets a new one.
void pool_engine::on_server_lost(clock::time_point now) {
  queue_->cancel(server_send_);
  server_.reset();
  for (const auto& [id, each] : links_) {
    if (each->state == link::stage::gone) continue;
    each->server_gone = !each->worker_end;
    each->status_due.reset();
    // One that it was to start may never have been there; else it is dying. One that it has not been told of is for the next,
    // if it is wanted still.
    if (each->process) kill(*each);
    else if (!each->worker_end || each->state == link::stage::leaving) each->process_ended = true;
  }
  std::erase_if(unsent_, [this](const auto& each) {
    const link* const about = find(each.head.worker);
    return each.head.type != wire::server_message_type::spawn || !about || about->process_ended;
  });
  connect_server(now);
  check_exits(now);
}

/// Half-closed, the socket makes the server kill what it has started for the pool and close its end.
void pool_engine::meet_last_workers(clock::time_point deadline) noexcept {
  if (!server_) return;
  ::shutdown(server_.get(), SHUT_WR);
  const auto unanswered = [](const auto& each) { return each.second->state != link::stage::gone && !each.second->process; };
  while (std::any_of(links_.begin(), links_.end(), unanswered)) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - clock::now()).count();
    pollfd answer{server_.get(), POLLIN, 0};
    if (const int polled = ::poll(&answer, 1, static_cast<int>(std::max<long>(left, 0))); polled < 0 && errno == EINTR) {
      continue;
    } else if (polled <= 0) {
      return;
    }
    wire::server_message message;
    std::vector<unique_fd> fds;
    const ssize_t received =
        wire::receive_with_fds(server_.get(), std::as_writable_bytes(std::span(&message, 1)), fds, MSG_DONTWAIT);
    if (received == -EAGAIN || received == -EMFILE) continue;
    if (received != sizeof message) return;
    link* const about = find(message.worker);
    if (!about || message.type != wire::server_message_type::spawned || fds.empty()) continue;
    about->process = std::move(fds.front());
  }
}

/// Accounts for workers that are dead: at once if the fork server has said how, or else when it has been given time to.
void pool_engine::check_exits(clock::time_point now) {
  std::vector<link*> dead;
  for (const auto& [id, each] : links_) {
    if (each->state == link::stage::gone) continue;
    if (each->status_due && now >= *each->status_due) each->status_due.reset();
    if (each->exit_known()) dead.push_back(each.get());
  }
  for (link* each : dead) {
    if (each->receive.pending) queue_->cancel(each->receive);  // exited() follows when it is reaped
    else exited(*each, now);
  }
}

void pool_engine::account(const link& which) {
  worker_exit how;
  how.why = which.why_it_left;
  how.pid = which.pid;
  how.max_rss_bytes = which.max_rss_bytes;
  how.tasks = which.results;
  if (which.wait_status) {
    how.status_known = true;
    if (WIFSIGNALED(*which.wait_status)) how.signal = WTERMSIG(*which.wait_status);
    else how.exit_code = WEXITSTATUS(*which.wait_status);
  }
  switch (how.why) {
    case worker_exit::reason::died: break;  // the scheduler counts those
    case worker_exit::reason::killed: ++workers_killed_; break;
    case worker_exit::reason::retired:
    case worker_exit::reason::idle: ++workers_retired_; break;
  }
  if (options_.on_worker_exit) notices_.push_back([call = options_.on_worker_exit, how] { call(how); });
}

/// A worker begins a task as soon as it has it and is done with the one before. One that has its tasks and begins none is
/// stopped, or damaged: it may have said that a task was done and be at it yet. Nothing else would ever end those tasks,
/// as their deadlines count from their start; killed, it gives them back. If it only was slow, they have lost nothing but
/// time. Twice, so that a machine (or a group of processes) that was halted for a while does not look like this.
void pool_engine::check_unstarted(clock::time_point now) {
  for (const auto& [id, each] : links_) {
    if (now < each->look_due()) continue;
    const unsigned found_quiet = each->times_found_quiet + 1;
    each->found_busy(now);
    if (!each->all_sent() || each->started_tasks() != 0) continue;
    each->times_found_quiet = found_quiet;
    if (found_quiet != 2) continue;
    each->why_it_left = worker_exit::reason::killed;
    kill(*each);
  }
}

void pool_engine::exited(link& which, clock::time_point now) {
  if (which.violation.empty()) {
    which.collect_last_words();
    read_frames(which, now);
  }
  const auto started = strip(which);
  if (scheduler_->broken()) {
    // It was killed for that; the death to tell of is the one before.
  } else if (which.wait_status) {
    last_death_ = WIFSIGNALED(*which.wait_status)
                      ? std::string("killed by signal ") + std::to_string(WTERMSIG(*which.wait_status))
                      : "exit code " + std::to_string(WEXITSTATUS(*which.wait_status));
  } else {
    last_death_ = "nobody could learn how it ended";
  }
  if (!scheduler_->broken() && !which.ready) last_death_ += options_.initializer ? ", in pool_options::initializer" : ", while it started";
  which.state = link::stage::gone;
  account(which);
  // First, as the end of the last worker may be that of the pool, which clears what nobody holds.
  which.kept.clear();
  which.initializer_leases.clear();
  which.abandoned.clear();
  scheduler_->worker_exited(which.id, started, now);
  run_actions(now);
  queue_->cancel(which.exit_watch);
  queue_->cancel(which.send);
}

}  // namespace shmpool::detail
