// The worker processes: how one is started and killed, what the fork server reports, how a dead worker is accounted
// for, and what happens when the fork server itself dies.
#include "pool/pool_engine.hpp"

#include "pool/fork_server.hpp"
#include "process/fault_point.hpp"
#include "process/standard_streams.hpp"
#include "shm/exhausted.hpp"
#include "wire/fd_passing.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

namespace shmpool::pool {

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

void pool_engine::start_worker(sched::worker_id id, bool lasting) {
  const auto now = clock::now();
  occupy_standard_streams();  // the application may have closed them since
  try {
    auto made = std::make_unique<worker_channel>(id);
    made->place = free_place();
    worker_channel& to = *links_.emplace(id, std::move(made)).first->second;
    polled_.reserve(links_.size());  // here, where want of memory does no harm
    wire::spawn_message message{};
    message.head.type = wire::server_message_type::spawn;
    message.head.worker = id;
    message.settings = settings_;
    message.settings.index = to.place;
    unsent_.push_back(message);
    wire::frame_header header;
    header.type = wire::frame_type::hello;
    to.queue_frame(header, {}, lasting ? lasting_hello_ : hello_);
    to.start_receiving(*queue_);
    idle_output_ = true;
  } catch (const std::exception& error) {
    start_failure_ = error.what();
    const auto* failed = dynamic_cast<const std::system_error*>(&error);
    if (failed) start_failure_ += shm::advice(start_failure_, failed->code());
    links_.erase(id);
    scheduler_->worker_start_failed(id, now);
    return;
  }
  send_to_server();
}

/// The lowest that no worker has.
std::uint32_t pool_engine::free_place() const {
  std::vector<bool> taken(links_.size() + 1);
  for (const auto& [id, each] : links_) {
    if (each->state != worker_channel::stage::gone && each->place < taken.size()) taken[each->place] = true;
  }
  return static_cast<std::uint32_t>(std::find(taken.begin(), taken.end(), false) - taken.begin());
}

void pool_engine::send_to_server() {
  while (!unsent_.empty() && server_ && !server_send_.pending) {
    const wire::spawn_message& message = unsent_.front();
    const bool spawn = message.head.type == wire::server_message_type::spawn;
    worker_channel* const about = find(message.head.worker);
    if (!about || about->state == worker_channel::stage::gone) {
      unsent_.pop_front();
      continue;
    }
    const int fds[] = {about->worker_end.get(), about->control.descriptor()};
    const std::size_t size = spawn ? sizeof message : sizeof message.head;
    const ssize_t sent = wire::send_with_fds(server_.get(), std::as_bytes(std::span(&message, 1)).first(size),
                                             std::span(fds, spawn ? 2U : 0U), MSG_DONTWAIT);
    if (sent == -EAGAIN) {
      server_send_.what = loop::operation::kind::poll_out;
      server_send_.fd = server_.get();
      queue_->start(server_send_);
      return;
    }
    if (sent == -EPIPE || sent == -ECONNRESET)
      return;                  // the server is dead; its socket tells, and the next one is sent this
    if (sent < 0 && !spawn) {  // a worker that is not killed would keep its task for ever
      about->failed("sendmsg to the fork server", static_cast<int>(-sent));
      return;
    }
    unsent_.pop_front();
    if (sent < 0) {
      // ETOOMANYREFS, say: descriptors in flight count against the limit.
      start_failed(*about, "sendmsg to the fork server: " + std::system_category().message(static_cast<int>(-sent)),
                   clock::now());
      continue;
    }
    if (spawn) {
      SHMPOOL_FAULT_POINT("parent.worker_asked");
      ++workers_started_;  // now, as its first reply may overtake the server's
      about->worker_end.reset();
      about->control.forget_descriptor();
    }
  }
}

void pool_engine::start_failed(worker_channel& which, std::string why, clock::time_point now) {
  start_failure_ = std::move(why);
  const auto started = strip(which);
  for (loop::operation* each : {&which.receive, &which.send, &which.exit_watch}) queue_->cancel(*each);
  which.state = worker_channel::stage::gone;
  // It can have been there, and have begun, although nobody can take charge of it.
  if (started.empty()) scheduler_->worker_start_failed(which.id, now);
  else scheduler_->worker_exited(which.id, started, now);
}

void pool_engine::kill(worker_channel& which, const char* why) noexcept {
  if (which.state == worker_channel::stage::gone) return;
  if (!which.killed_because) which.killed_because = why;
  which.state = worker_channel::stage::leaving;
  if (which.process) {
    if (::syscall(SYS_pidfd_send_signal, which.process.get(), SIGKILL, nullptr, 0) == 0 || errno == ESRCH) return;
    // A sandbox may forbid it, or the application has dropped its privileges; the fork server has kept them.
  }
  wire::spawn_message message{};
  message.head.type = wire::server_message_type::kill;
  message.head.worker = which.id;
  unsent_.push_back(message);
  send_to_server();
}

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
      if (worker_channel* about = find(message.worker); about && message.type == wire::server_message_type::spawned) {
        kill(*about, "this process had no descriptor left for it");
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
  worker_channel* const about = find(message.worker);
  server_attempts_ = 0;
  if (!about || about->state == worker_channel::stage::gone) return;
  switch (message.type) {
    case wire::server_message_type::spawned:
      pool::server_works();
      about->pid = message.pid;
      about->process = std::move(descriptor);
      about->exit_watch.fd = about->process.get();
      queue_->start(about->exit_watch);
      if (about->state == worker_channel::stage::starting) about->state = worker_channel::stage::running;
      scheduler_->worker_started(about->id, now);
      break;
    case wire::server_message_type::spawn_failed:
      --workers_started_;
      start_failed(*about, std::string(name_of(message.call)) + ": " + std::system_category().message(message.status),
                   now);
      break;
    case wire::server_message_type::exited:
      about->wait_status = message.status;
      about->max_rss_bytes = message.max_rss_bytes;
      about->cpu_time = std::chrono::microseconds(message.cpu_us);
      check_exits(now);
      break;
    default: break;
  }
}

/// The fork server is dead, and with it all workers (they die with their parent). A program that called init gets a new
/// one.
void pool_engine::on_server_lost(clock::time_point now) {
  queue_->cancel(server_send_);
  server_.reset();
  for (const auto& [id, each] : links_) {
    if (each->state == worker_channel::stage::gone) continue;
    // It would have ended what the worker's tasks have started. Since Linux 6.9 the process group can be named safely.
    if (each->process && !options_.leave_descendants) {
      constexpr unsigned process_group = 4;  // PIDFD_SIGNAL_PROCESS_GROUP
      ::syscall(SYS_pidfd_send_signal, each->process.get(), SIGKILL, nullptr, process_group);
    }
    each->server_gone = !each->worker_end;
    each->status_due.reset();
    // One that it was to start may never have been there; else it is dying. One that it has not been told of is for the
    // next, if it is wanted still.
    if (each->process) kill(*each, "the fork server that had started it died");
    else if (!each->worker_end || each->state == worker_channel::stage::leaving) each->process_ended = true;
  }
  std::erase_if(unsent_, [this](const auto& each) {
    const worker_channel* const about = find(each.head.worker);
    return each.head.type != wire::server_message_type::spawn || !about || about->process_ended;
  });
  connect_server(now);
  check_exits(now);
}

/// Half-closed, the socket makes the server kill what it has started for the pool and close its end.
void pool_engine::meet_last_workers(clock::time_point deadline) noexcept {
  if (!server_) return;
  ::shutdown(server_.get(), SHUT_WR);
  const auto unanswered = [](const auto& each) {
    return each.second->state != worker_channel::stage::gone && !each.second->process;
  };
  while (std::any_of(links_.begin(), links_.end(), unanswered)) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - clock::now()).count();
    pollfd answer{server_.get(), POLLIN, 0};
    if (const int polled = ::poll(&answer, 1, static_cast<int>(std::max<long>(left, 0)));
        polled < 0 && errno == EINTR) {
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
    worker_channel* const about = find(message.worker);
    if (!about || message.type != wire::server_message_type::spawned || fds.empty()) continue;
    about->process = std::move(fds.front());
  }
}

/// Accounts for workers that are dead: at once if the fork server has said how, or else when it has been given time to.
void pool_engine::check_exits(clock::time_point now) {
  std::vector<worker_channel*> dead;
  for (const auto& [id, each] : links_) {
    if (each->state == worker_channel::stage::gone) continue;
    if (each->status_due && now >= *each->status_due) each->status_due.reset();
    if (each->exit_known()) dead.push_back(each.get());
  }
  for (worker_channel* each : dead) {
    if (each->receive.pending) queue_->cancel(each->receive);  // exited() follows when it is reaped
    else exited(*each, now);
  }
}

void pool_engine::account(const worker_channel& which) {
  worker_exit how;
  how.why = which.why_it_left;
  how.tasks = which.results;
  which.describe_end(how);
  switch (how.why) {
    case worker_exit::reason::died: ++worker_deaths_; break;
    case worker_exit::reason::killed: ++workers_killed_; break;
    case worker_exit::reason::retired:
    case worker_exit::reason::idle: ++workers_retired_; break;
  }
  if (!options_.on_worker_exit) return;
  try {
    notices_.emplace_back(options_.on_worker_exit, how);
  } catch (const std::bad_alloc&) {
    // Nobody hears of it, but the worker is accounted for.
  }
}

/// A worker begins a task as soon as it has it and is done with the one before. One that has its tasks and begins none
/// is stopped, or damaged: it may have said that a task was done and be at it yet. Nothing else would ever end those
/// tasks, as their deadlines count from their start; killed, it gives them back. If it only was slow, they have lost
/// nothing but time. Twice, so that a machine (or a group of processes) that was halted for a while does not look like
/// this. It may also keep its replies to itself, as it believes that somebody looks at them: so somebody does.
void pool_engine::check_unstarted(clock::time_point now) {
  for (const auto& [id, each] : links_) {
    if (now < each->look_due()) continue;
    if (each->violation.empty() && take_from_ring(*each, now)) {
      each->repeat_polled();
      continue;
    }
    const unsigned found_quiet = each->times_found_quiet + 1;
    each->found_busy(now);
    if (!each->all_sent() || each->started_tasks() != 0) continue;
    each->times_found_quiet = found_quiet;
    if (found_quiet != 2) continue;
    each->why_it_left = worker_exit::reason::killed;
    kill(*each, "it had begun none of its tasks for two seconds");
  }
}

void pool_engine::note_death(const worker_channel& which, const std::vector<sched::task_id>& started,
                             clock::time_point now) {
  if (started.size() == 1 && which.why_it_left == worker_exit::reason::died && !which.died_by_pool()) {
    // With several it is not certain which one it was.
    const auto* culprit = static_cast<const task*>(scheduler_->assigned_context(which.id, started.front()));
    if (culprit && culprit->attachments.empty()) killers_.killed(culprit->function, culprit->arguments, now);
  }
  if (which.why_it_left != worker_exit::reason::died && which.violation.empty())
    return;  // it had been asked to, or was to go
  if (!started.empty() || which.results != 0 || which.unfit) return;
  last_problem_ = {};
  if (!which.violation.empty()) {
    last_death_ = which.violation;
  } else if (which.killed_because) {
    last_death_ = std::string("killed by the pool: ") + which.killed_because;
  } else if (!which.wait_status) {
    last_death_ = "nobody could learn how it ended";
  } else if (WIFSIGNALED(*which.wait_status)) {
    last_death_ = "killed by signal " + std::to_string(WTERMSIG(*which.wait_status));
  } else {
    last_death_ = "exit code " + std::to_string(WEXITSTATUS(*which.wait_status));
  }
  if (!which.ready) last_death_ += has_initializer_ ? ", in pool_options::initializer" : ", while it started";
}

void pool_engine::exited(worker_channel& which, clock::time_point now) {
  try {
    if (which.violation.empty()) {
      which.collect_last_words();
      if (read_frames(which, now) && which.replies.take_from_ring()) read_frames(which, now);
    }
  } catch (const std::bad_alloc&) {
    // What it said last is lost, and the task that it said it of with the worker.
  }
  const auto started = strip(which);
  try {
    note_death(which, started, now);
  } catch (const std::bad_alloc&) {
    last_death_.clear();
  }
  which.state = worker_channel::stage::gone;
  account(which);
  // First, as the end of the last worker may be that of the pool, which clears what nobody holds.
  which.kept.clear();
  which.initializer_leases.clear();
  which.abandoned.clear();
  scheduler_->worker_exited(which.id, started, now, which.died_by_pool());
  run_actions(now);
  queue_->cancel(which.exit_watch);
  queue_->cancel(which.send);
}

}  // namespace shmpool::pool
