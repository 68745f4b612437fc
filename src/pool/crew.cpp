#include "pool/crew.hpp"

#include "process/assert.hpp"
#include "process/standard_streams.hpp"
#include "shm/exhausted.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <exception>
#include <new>
#include <string>
#include <system_error>
#include <utility>

namespace shmpool::pool {

namespace {

/// False if this process may not signal the worker: a sandbox forbids that, or the application has dropped privileges.
bool send_kill(const unique_fd& process, unsigned flags = 0) noexcept {
  return ::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, flags) == 0 || errno == ESRCH;
}

}  // namespace

crew::crew(orders what, std::unique_ptr<server_channel::source> servers, pool_loop& loop, sched::scheduler& scheduler,
           task_ledger& ledger, reply_handler& replies, killer_table& killers, diagnosis& problems)
    : orders_(std::move(what)),
      loop_(loop),
      scheduler_(scheduler),
      ledger_(ledger),
      replies_(replies),
      problems_(problems),
      accounts_(ledger, killers, problems, orders_.on_worker_exit, orders_.cpu_limit),
      server_(loop.queue(), std::move(servers)) {
}

worker_channel* crew::find(sched::worker_id id) noexcept {
  const auto found = channels_.find(id);
  return found == channels_.end() ? nullptr : found->second.get();
}

const worker_channel* crew::find(sched::worker_id id) const noexcept {
  const auto found = channels_.find(id);
  return found == channels_.end() ? nullptr : found->second.get();
}

std::size_t crew::running_tasks() const noexcept {
  std::size_t count = 0;
  for (const auto& [id, channel] : channels_) count += channel->started_tasks();
  return count;
}

void crew::start(sched::worker_id id, bool lasting, time_point now) {
  occupy_standard_streams();  // the application may have closed some since the last call
  try {
    auto made = std::make_unique<worker_channel>(id);
    worker_channel& to = *channels_.emplace(id, std::move(made)).first->second;
    roster_.add(to);
    wire::frame_header header;
    header.type = wire::frame_type::hello;
    header.value = id;
    const auto& hello = lasting ? orders_.lasting_hello : orders_.hello;
    if (const int bell = loop_.bell().to_ring(); bell >= 0) {
      header.slot = 1;
      to.queue_frame(header, hello, bell);
    } else {
      to.queue_frame(header, {}, hello);
    }
    wire::worker_settings settings = orders_.settings;
    settings.index = to.place;
    server_.spawn(id, settings, std::move(to.worker_end), to.control.take_descriptor(), now);
    to.start_receiving(loop_.queue(), now);
    note_due(to);
  } catch (const std::exception& error) {
    std::string why = error.what();
    if (const auto* failed = dynamic_cast<const std::system_error*>(&error)) why += shm::advice(why, failed->code());
    problems_.cannot_start(std::move(why));
    server_.forget(id);
    if (worker_channel* const unborn = find(id)) roster_.remove(*unborn);
    channels_.erase(id);
    scheduler_.worker_start_failed(id, now);
  }
  take_reports(now);
}

void crew::retire(worker_channel& worker) {
  wire::frame_header header;
  header.type = wire::frame_type::leave;
  worker.queue_frame(header, {}, {});
  worker.life.may_leave(worker_exit::reason::retired);
}

void crew::kill(worker_channel& worker, worker_life::killer how, time_point now) {
  if (how == worker_life::killer::signal && !send_kill(worker.process)) how = worker.life.signal_refused();
  if (how != worker_life::killer::server) return;
  server_.kill(worker.id, now);
  take_reports(now);
}

void crew::kill_for_task(worker_channel& worker, time_point now) {
  kill(worker,
       worker.life.kill_for_task("a cancelled or overdue task did not stop, or the worker did not leave when asked to"),
       now);
}

void crew::execute_sentence(worker_channel& worker, time_point now) {
  if (!worker.condemned) return;
  kill(worker, *std::exchange(worker.condemned, std::nullopt), now);
  if (!worker.life.violation().empty()) loop_.queue().cancel(worker.receive);
}

std::vector<sched::task_id> crew::reclaim_tasks(worker_channel& worker) {
  std::vector<sched::task_id> started;
  for (std::uint16_t slot = 0; slot != wire::slot_count; ++slot) {
    task_entry* const task = worker.task_in(slot);
    if (!task || scheduler_.assigned_handle(worker.id, task->id) == sched::no_task) continue;
    // By compare-and-swap, as the worker may still be alive.
    if (!wire::take_back(worker.slot(slot), worker.handover_in(slot))) started.push_back(task->id);
    task->unassign();
  }
  return started;
}

// ---- Incoming events.

bool crew::server_reaped(const loop::operation& op, time_point now) {
  if (!server_.owns(op)) return false;
  server_.reaped(op, now);
  take_reports(now);
  return true;
}

void crew::reaped(worker_channel& worker, const loop::operation& op, time_point now) {
  if (&op == &worker.receive) {
    received(worker, now);
  } else if (worker.life.is_ended()) {
    return;
  } else if (&op == &worker.exit_watch) {
    process_watched(worker, now);
  } else {
    // If the stream cannot be written, the worker has died; its other operations report that.
    worker.sent(loop_.queue(), now);
    worker.found_busy(now);
  }
  note_due(worker);
}

void crew::process_watched(worker_channel& worker, time_point now) {
  if (worker.exit_watch.result == -ECANCELED) return;
  if (worker.exit_watch.result < 0)
    return worker.retries.failed("waiting for the end of its process", -worker.exit_watch.result, now);
  worker.life.process_ended(now);
  check_exit(worker, now);
}

void crew::received(worker_channel& from, time_point now) {
  if (from.life.is_ended()) return;
  const int result = from.receive.result;
  const auto is_trusted = [&from] { return from.life.violation().empty(); };
  if (result > 0) {
    from.replies.commit(static_cast<std::size_t>(result));
    if (is_trusted()) replies_.read(from, now);
    // A worker that is still polled needs no look here: the next one is near.
    if (is_trusted() && !from.polled() && from.replies.behind()) replies_.read_ring(from, now);
    execute_sentence(from, now);
  }
  if (from.life.end_is_known()) return bury(from, now);
  if (!is_trusted()) return;
  if (result > 0 || result == -ECANCELED) {
    // A worker without tasks sends nothing; exit_watch reports its end.
    if (from.has_tasks() || !from.life.is_ready()) from.start_receiving(loop_.queue(), now);
  } else if (result < 0 && !worker_channel::is_end(-result)) {
    from.retries.failed("recv", -result, now);
  } else {
    (void)look_at(from, now);  // the end of the socket may overtake the bell: perhaps the worker says that it leaves
    // Or it is useless without its socket, or is dying of a cause that its wait status will tell.
    if (is_trusted() && from.life.now() != worker_life::stage::leaving) kill(from, from.life.kill(nullptr), now);
  }
}

bool crew::look_at(worker_channel& from, time_point now) {
  if (!from.life.violation().empty()) return false;
  const bool found = replies_.read_ring(from, now);
  if (found) execute_sentence(from, now);
  if (found || from.retries.is_waiting()) note_due(from);
  return found;
}

bool crew::hear(time_point now) {
  bool found = false;
  const auto answer = [&](worker_channel& from) {
    if (from.life.is_ended()) return;
    from.before_look();
    found |= look_at(from, now);
  };
  // As many as there can be; should more have been rung, the descriptor stays readable.
  for (std::size_t left = std::max<std::size_t>(channels_.size(), 1); left != 0; --left) {
    const auto number = loop_.bell().next();
    if (!number) break;
    if (worker_channel* const from = find(*number)) answer(*from);
    else each(answer);  // of a worker that is gone; or a worker has put nonsense in the place of others' rings
  }
  return found;
}

bool crew::look(time_point now) {
  bool found = false;
  roster_.each_polled([&](worker_channel& from) { found |= look_at(from, now); });
  return found;
}

bool crew::end_polling(time_point now) {
  // Workers may have left replies in their rings while they were polled: look once more.
  bool found = false;
  roster_.each_polled([&](worker_channel& from) {
    from.set_polled(false);
    found |= look_at(from, now);
  });
  roster_.end_polling();
  told_polled_ = false;
  return found;
}

void crew::send(bool polled, std::chrono::nanoseconds spin, time_point now) {
  const bool is_news = (polled && !told_polled_) || spin != told_spin_;
  roster_.each_busy(is_news, [&](worker_channel& worker) {
    if (polled) {
      worker.set_polled(true);
      roster_.is_polled(worker);
    }
    worker.let_spin(spin);
  });
  told_polled_ = polled;
  told_spin_ = spin;
  roster_.each_outgoing([&](worker_channel& worker) {
    worker.start_sending(loop_.queue(), now);
    if (worker.retries.is_waiting()) note_due(worker);
  });
}

void crew::now_busy(worker_channel& worker, time_point now) {
  worker.found_busy(now);
  roster_.is_busy(worker);
  if (worker.life.is_ready() && !worker.receive.pending) worker.start_receiving(loop_.queue(), now);
  note_due(worker);
}

// ---- The fork server.

void crew::take_reports(time_point now) {
  while (auto heard = server_.next_report()) take_report(*heard, now);
}

void crew::take_report(server_channel::report& heard, time_point now) {
  using kind = server_channel::report::kind;
  switch (heard.what) {
    case kind::lost: return server_lost(now);
    case kind::stuck: return break_pool({"a worker cannot be reached: " + heard.why}, now);
    case kind::gone:
      if (!heard.why.empty()) break_pool({"the fork server died and cannot be started again: " + heard.why}, now);
      each([](worker_channel& worker) { worker.life.no_server(); });
      return check_exits(now);
    default: break;
  }
  worker_channel* const worker = find(heard.worker);
  if (heard.what == kind::told)
    accounts_.started();  // count now: the worker's first reply may overtake the server's report
  if (!worker || worker->life.is_ended()) return;
  switch (heard.what) {
    case kind::told: worker->life.told_to_server(); break;
    case kind::spawned:
      if (!heard.process) {  // without a pidfd it cannot be controlled, so kill it
        kill(*worker, worker->life.kill("this process had no descriptor left for it"), now);
        return start_failed(*worker, "recvmsg of a worker's pidfd: " + std::system_category().message(EMFILE), now);
      }
      worker->life.spawned(heard.message.pid);
      worker->process = std::move(heard.process);
      worker->exit_watch.fd = worker->process.get();
      loop_.queue().start(worker->exit_watch);
      scheduler_.worker_started(worker->id, now);
      break;
    case kind::spawn_failed:
      if (!worker->life.is_untold()) accounts_.not_started();
      start_failed(*worker, std::move(heard.why), now);
      break;
    case kind::exited:
      worker->life.exit_status(heard.message.status, heard.message.max_rss_bytes,
                               std::chrono::microseconds(heard.message.cpu_us));
      check_exit(*worker, now);
      break;
    default: break;
  }
  note_due(*worker);
}

void crew::start_failed(worker_channel& worker, std::string why, time_point now) {
  problems_.cannot_start(std::move(why));
  const auto started = reclaim_tasks(worker);
  server_.forget(worker.id);
  for (loop::operation* op : {&worker.receive, &worker.send, &worker.exit_watch}) loop_.queue().cancel(*op);
  worker.life.spawn_failed();
  roster_.remove(worker);
  ++over_;
  // The process may have existed and have begun a task, although the parent has no pidfd for it.
  if (started.empty()) scheduler_.worker_start_failed(worker.id, now);
  else scheduler_.worker_exited(worker.id, started, now);
}

/// The fork server is dead, and with it all workers (they die with their parent). A program that called init gets a new
/// server.
void crew::server_lost(time_point now) {
  each([&](worker_channel& worker) {
    // The server would have killed the processes that the worker's tasks started. Since Linux 6.9 a pidfd can name the
    // process group safely.
    constexpr unsigned process_group = 4;  // PIDFD_SIGNAL_PROCESS_GROUP
    if (worker.process && !orders_.leave_descendants) send_kill(worker.process, process_group);
    switch (worker.life.server_lost()) {
      case worker_life::orphaned::wanted: break;
      case worker_life::orphaned::killed:
        kill(worker, worker.life.kill("the fork server that had started it died"), now);
        break;
      case worker_life::orphaned::over: server_.forget(worker.id); break;
    }
  });
  server_.reconnect(now, server_wanted());
  check_exits(now);
}

// ---- Time.

crew::time_point crew::due() const noexcept {
  SHMPOOL_ASSERT(std::all_of(channels_.begin(), channels_.end(),
                             [](const auto& each) { return each.second->life.is_ended() || each.second->is_noted(); }));
  return std::min(server_.due(), roster_.due());
}

void crew::tick(time_point now) {
  std::string failure;
  roster_.each_due(now, [&](worker_channel& worker) {
    check_exit(worker, now);
    check_unstarted(worker, now);
    if (std::string why = retry_transfers(worker, now); !why.empty()) failure = std::move(why);
  });
  if (!failure.empty()) break_pool({"a worker cannot be reached: " + failure}, now);
  server_.tick(now, server_wanted());
  take_reports(now);
}

void crew::check_exits(time_point now) {
  each([&](worker_channel& worker) { check_exit(worker, now); });
}

void crew::check_exit(worker_channel& worker, time_point now) {
  if (worker.life.is_ended()) return;
  worker.life.status_overdue(now);
  if (!worker.life.end_is_known()) return;
  if (worker.receive.pending) loop_.queue().cancel(worker.receive);  // received() buries it
  else bury(worker, now);
}

/// A worker begins a task as soon as it has it and has finished the previous one. A worker that has received tasks and
/// begins none is stopped or damaged: it may have reported a task as done and still run it. Nothing else would ever end
/// its tasks, as their timeouts count from their start; killing the worker gives them back. If it was only slow, the
/// tasks have lost nothing but time. It must be found quiet twice, so that a halted machine (or process group) does not
/// look like this. First look at the ring, of which the worker may believe that somebody does.
void crew::check_unstarted(worker_channel& worker, time_point now) {
  if (worker.life.is_ended() || now < worker.look_due()) return;
  worker.before_look();
  if (look_at(worker, now)) return;
  const unsigned found_quiet = worker.times_found_quiet + 1;
  worker.found_busy(now);
  if (!worker.all_sent() || worker.started_tasks() != 0) return;
  worker.times_found_quiet = found_quiet;
  if (found_quiet == 2)
    kill(worker, worker.life.kill_as_useless("it had begun none of its tasks for two seconds"), now);
}

std::string crew::retry_transfers(worker_channel& worker, time_point now) {
  if (!worker.retries.is_due(now) || worker.life.is_ended()) return {};
  roster_.has_frames(worker);
  (void)look_at(worker, now);
  if (!worker.receive.pending && worker.life.violation().empty()) worker.start_receiving(loop_.queue(), now);
  if (worker.life.awaits_end() && !worker.exit_watch.pending) loop_.queue().start(worker.exit_watch);
  return worker.retries.is_over(now) ? worker.retries.why() : std::string();
}

void crew::sweep() {
  if (over_ == 0) return;
  over_ -= std::erase_if(channels_, [](const auto& each) {
    const worker_channel& worker = *each.second;
    return worker.life.is_ended() && !worker.receive.pending && !worker.send.pending && !worker.exit_watch.pending;
  });
}

// ---- The dead.

void crew::bury(worker_channel& worker, time_point now) {
  SHMPOOL_ASSERT(!worker.life.is_ended());
  replies_.read_last_words(worker, now);
  worker.condemned.reset();  // it is dead
  const auto started = reclaim_tasks(worker);
  SHMPOOL_ASSERT(!worker.has_tasks());  // reclaim_tasks() has taken them all
  const bool is_one = started.size() == 1;
  accounts_.blame(worker.life, started.size(),
                  is_one ? ledger_.find(scheduler_.assigned_handle(worker.id, started.front())) : nullptr, now);
  accounts_.close(worker.life);
  worker.life.accounted();
  // Before worker_exited(): the end of the last worker may drain the pool, which then clears all segments without a
  // handle.
  worker.kept.clear();
  worker.initializer_leases.clear();
  worker.abandoned.clear();
  scheduler_.worker_exited(worker.id, started, now, worker.life.died_by_pool());
  loop_.queue().cancel(worker.exit_watch);
  loop_.queue().cancel(worker.send);
  roster_.remove(worker);
  ++over_;
}

void crew::count(pool_stats& stats) const noexcept {
  accounts_.count(stats);
  stats.running = running_tasks();
}

// ---- The end.

void crew::break_pool(detail::breakage why, time_point now) noexcept {
  if (scheduler_.broken()) return;
  problems_.breaks(std::move(why));
  scheduler_.break_pool(now);
}

/// Takes in the workers that the fork server is starting at the end of the pool, so that their death can be waited for.
void crew::meet_last_workers(time_point deadline) {
  if (!server_.is_open()) return;
  server_.half_close();
  const auto is_unanswered = [](const auto& each) { return !each.second->life.is_ended() && !each.second->process; };
  bool more = true;
  while (more && std::any_of(channels_.begin(), channels_.end(), is_unanswered)) {
    more = server_.wait(deadline);
    while (auto heard = server_.next_report()) {
      worker_channel* const worker = find(heard->worker);
      if (!worker || heard->what != server_channel::report::kind::spawned || !heard->process) continue;
      worker->life.spawned(heard->message.pid);
      worker->process = std::move(heard->process);
    }
  }
}

void crew::end_all(const char* why, time_point deadline) noexcept {
  try {
    meet_last_workers(deadline);
    each([&](worker_channel& worker) {
      if (worker.process) kill(worker, worker.life.kill(why), monotonic_clock::now());
    });
  } catch (const std::bad_alloc&) {
    // The server kills the remaining workers when its socket is closed.
  }
  for (const auto& [id, channel] : channels_) channel->await_end(deadline);
}

void crew::end_without_loop(time_point deadline, time_point now) {
  meet_last_workers(deadline);
  for (const auto& [id, channel] : channels_) channel->await_end(deadline);
  loop_.queue().cancel_all();
  server_.close();
  for (const auto& [id, channel] : channels_) {
    if (!channel->life.is_ended()) bury(*channel, now);
  }
  forget_all();
}

void crew::forget_all() {
  server_.close();
  for (auto& [id, channel] : channels_) {
    roster_.remove(*channel);
    if (loop_.is_refused()) loop_.outlive(std::move(channel));
  }
  channels_.clear();
  over_ = 0;
}

}  // namespace shmpool::pool
