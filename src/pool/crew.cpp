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
      killers_(killers),
      problems_(problems),
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

/// The lowest place that no worker has.
std::uint32_t crew::free_place() const {
  std::vector<bool> taken(channels_.size() + 1);
  each([&](const worker_channel& other) {
    if (other.place < taken.size()) taken[other.place] = true;
  });
  return static_cast<std::uint32_t>(std::find(taken.begin(), taken.end(), false) - taken.begin());
}

void crew::start(sched::worker_id id, bool lasting, time_point now) {
  occupy_standard_streams();  // the application may have closed some since the last call
  try {
    auto made = std::make_unique<worker_channel>(id);
    made->place = free_place();
    worker_channel& to = *channels_.emplace(id, std::move(made)).first->second;
    wire::frame_header header;
    header.type = wire::frame_type::hello;
    to.queue_frame(header, {}, lasting ? orders_.lasting_hello : orders_.hello);
    wire::worker_settings settings = orders_.settings;
    settings.index = to.place;
    server_.spawn(id, settings, std::move(to.worker_end), to.control.take_descriptor(), now);
    to.start_receiving(loop_.queue());
  } catch (const std::exception& error) {
    std::string why = error.what();
    if (const auto* failed = dynamic_cast<const std::system_error*>(&error)) why += shm::advice(why, failed->code());
    problems_.cannot_start(std::move(why));
    server_.forget(id);
    channels_.erase(id);
    scheduler_.worker_start_failed(id, now);
  }
  take_reports(now);
}

void crew::retire(worker_channel& which) {
  wire::frame_header header;
  header.type = wire::frame_type::leave;
  which.queue_frame(header, {}, {});
  which.life.may_leave(worker_exit::reason::retired);
}

void crew::kill(worker_channel& which, worker_life::killer how, time_point now) {
  if (how == worker_life::killer::signal && !send_kill(which.process)) how = which.life.signal_refused();
  if (how != worker_life::killer::server) return;
  server_.kill(which.id, now);
  take_reports(now);
}

void crew::kill_for_task(worker_channel& which, time_point now) {
  kill(which,
       which.life.kill_for_task("a task was to end that did not heed it, or the worker was to leave and did not"), now);
}

void crew::execute_sentence(worker_channel& which, time_point now) {
  if (!which.condemned) return;
  kill(which, *std::exchange(which.condemned, std::nullopt), now);
  if (!which.life.violation().empty()) loop_.queue().cancel(which.receive);
}

std::vector<sched::task_id> crew::reclaim_tasks(worker_channel& which) {
  std::vector<sched::task_id> started;
  for (std::uint16_t slot = 0; slot != wire::slot_count; ++slot) {
    const auto id = which.task_in(slot);
    auto* const each = id == 0 ? nullptr : static_cast<task*>(scheduler_.assigned_context(which.id, id));
    if (!each) continue;
    // By compare-and-swap, as the worker may still be alive.
    if (!wire::take_back(which.slot(slot), which.handover_in(slot))) started.push_back(id);
    each->unassign();
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

void crew::reaped(worker_channel& which, const loop::operation& op, time_point now) {
  if (&op == &which.receive) return received(which, now);
  if (which.life.is_ended()) return;
  if (&op == &which.exit_watch) return process_watched(which, now);
  // If the stream cannot be written, the worker has died; its other operations report that.
  which.sent(loop_.queue());
  which.found_busy(now);
}

void crew::process_watched(worker_channel& of, time_point now) {
  if (of.exit_watch.result == -ECANCELED) return;
  if (of.exit_watch.result < 0) return of.failed("waiting for the end of its process", -of.exit_watch.result);
  of.life.process_ended(now);
  check_exits(now);
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
    if (from.has_tasks() || !from.life.is_ready()) from.start_receiving(loop_.queue());
  } else if (result < 0 && !worker_channel::is_end(-result)) {
    from.failed("recv", -result);
  } else if (from.life.now() != worker_life::stage::leaving) {
    // The worker has closed its socket: it is useless, or is dying of a cause that its wait status will tell.
    kill(from, from.life.kill(nullptr), now);
  }
}

bool crew::look(time_point now) {
  bool found = false;
  each([&](worker_channel& from) {
    if (!from.polled() || !from.life.violation().empty() || !replies_.read_ring(from, now)) return;
    found = true;
    execute_sentence(from, now);
  });
  return found;
}

bool crew::end_polling(time_point now) {
  // Workers may have left replies in their rings while they were polled: look once more.
  bool found = false;
  each([&](worker_channel& from) {
    if (!from.polled()) return;
    from.set_polled(false);
    if (!from.life.violation().empty() || !replies_.read_ring(from, now)) return;
    found = true;
    execute_sentence(from, now);
  });
  return found;
}

void crew::send(bool polled, std::chrono::nanoseconds spin) {
  for (const auto& [id, channel] : channels_) {
    if (channel->has_tasks()) {
      if (polled) channel->set_polled(true);
      channel->let_spin(spin);
    }
    channel->start_sending(loop_.queue());
  }
}

void crew::now_busy(worker_channel& which, time_point now) {
  which.found_busy(now);
  due_ = std::min(due_, now + worker_channel::patience);
  if (which.life.is_ready() && !which.receive.pending) which.start_receiving(loop_.queue());
}

// ---- The fork server.

void crew::take_reports(time_point now) {
  while (auto heard = server_.next_report()) take_report(*heard, now);
}

void crew::take_report(server_channel::report& heard, time_point now) {
  using kind = server_channel::report::kind;
  switch (heard.what) {
    case kind::lost: return server_lost(now);
    case kind::stuck: return break_pool({"a worker cannot be talked to: " + heard.why}, now);
    case kind::gone:
      if (!heard.why.empty()) break_pool({"the fork server died and cannot be started again: " + heard.why}, now);
      each([](worker_channel& of) { of.life.no_server(); });
      return check_exits(now);
    default: break;
  }
  worker_channel* const about = find(heard.worker);
  if (heard.what == kind::told) ++started_;  // count now: the worker's first reply may overtake the server's report
  if (!about || about->life.is_ended()) return;
  switch (heard.what) {
    case kind::told: about->life.told_to_server(); break;
    case kind::spawned:
      if (!heard.process) {  // without a pidfd it cannot be controlled, so kill it
        kill(*about, about->life.kill("this process had no descriptor left for it"), now);
        return start_failed(*about, "recvmsg of a worker's pidfd: " + std::system_category().message(EMFILE), now);
      }
      about->life.spawned(heard.message.pid);
      about->process = std::move(heard.process);
      about->exit_watch.fd = about->process.get();
      loop_.queue().start(about->exit_watch);
      scheduler_.worker_started(about->id, now);
      break;
    case kind::spawn_failed:
      if (!about->life.is_untold()) --started_;
      start_failed(*about, std::move(heard.why), now);
      break;
    case kind::exited:
      about->life.exit_status(heard.message.status, heard.message.max_rss_bytes,
                              std::chrono::microseconds(heard.message.cpu_us));
      check_exits(now);
      break;
    default: break;
  }
}

void crew::start_failed(worker_channel& which, std::string why, time_point now) {
  problems_.cannot_start(std::move(why));
  const auto started = reclaim_tasks(which);
  server_.forget(which.id);
  for (loop::operation* op : {&which.receive, &which.send, &which.exit_watch}) loop_.queue().cancel(*op);
  which.life.spawn_failed();
  // The process may have existed and have begun a task, although the parent has no pidfd for it.
  if (started.empty()) scheduler_.worker_start_failed(which.id, now);
  else scheduler_.worker_exited(which.id, started, now);
}

/// The fork server is dead, and with it all workers (they die with their parent). A program that called init gets a new
/// server.
void crew::server_lost(time_point now) {
  each([&](worker_channel& of) {
    // The server would have killed the processes that the worker's tasks started. Since Linux 6.9 a pidfd can name the
    // process group safely.
    constexpr unsigned process_group = 4;  // PIDFD_SIGNAL_PROCESS_GROUP
    if (of.process && !orders_.leave_descendants) send_kill(of.process, process_group);
    switch (of.life.server_lost()) {
      case worker_life::orphaned::wanted: break;
      case worker_life::orphaned::killed:
        kill(of, of.life.kill("the fork server that had started it died"), now);
        break;
      case worker_life::orphaned::over: server_.forget(of.id); break;
    }
  });
  server_.reconnect(now, server_wanted());
  check_exits(now);
}

// ---- Time.

crew::time_point crew::next_due() noexcept {
  due_ = server_.due();
  for (const auto& [id, channel] : channels_) due_ = std::min(due_, channel->due());
  return due_;
}

void crew::tick(time_point now) {
  check_exits(now);
  check_unstarted(now);
  retry_transfers(now);
}

void crew::check_exits(time_point now) {
  std::vector<worker_channel*> dead;
  each([&](worker_channel& of) {
    of.life.status_overdue(now);
    if (of.life.end_is_known()) dead.push_back(&of);
  });
  for (worker_channel* of : dead) {
    if (of->receive.pending) loop_.queue().cancel(of->receive);  // received() buries it
    else bury(*of, now);
  }
}

/// A worker begins a task as soon as it has it and has finished the previous one. A worker that has received tasks and
/// begins none is stopped or damaged: it may have reported a task as done and still run it. Nothing else would ever end
/// its tasks, as their timeouts count from their start; killing the worker gives them back. If it was only slow, the
/// tasks have lost nothing but time. It must be found quiet twice, so that a halted machine (or process group) does not
/// look like this. First look at the ring of a worker that still believes it is polled and sends nothing.
void crew::check_unstarted(time_point now) {
  each([&](worker_channel& of) {
    if (now < of.look_due()) return;
    if (of.life.violation().empty() && replies_.read_ring(of, now)) {
      execute_sentence(of, now);
      return of.repeat_polled();
    }
    const unsigned found_quiet = of.times_found_quiet + 1;
    of.found_busy(now);
    if (!of.all_sent() || of.started_tasks() != 0) return;
    of.times_found_quiet = found_quiet;
    if (found_quiet == 2) kill(of, of.life.kill_as_useless("it had begun none of its tasks for two seconds"), now);
  });
}

/// Retries failed operations on the sockets and pidfds of workers, and on the socket of the fork server.
void crew::retry_transfers(time_point now) {
  std::string why;
  for (const auto& [id, channel] : channels_) {
    worker_channel& of = *channel;
    if (!of.retry_due || now < *of.retry_due) continue;
    of.retry_due.reset();
    if (of.life.is_ended()) continue;
    if (now - of.failing_since >= pool_loop::patience) why = of.failure;
    if (!of.receive.pending && of.life.violation().empty()) of.start_receiving(loop_.queue());
    if (of.life.awaits_end() && !of.exit_watch.pending) loop_.queue().start(of.exit_watch);
  }
  if (!why.empty()) break_pool({"a worker cannot be talked to: " + why}, now);
  server_.tick(now, server_wanted());
  take_reports(now);
}

void crew::sweep() {
  std::erase_if(channels_, [](const auto& each) {
    const worker_channel& of = *each.second;
    return of.life.is_ended() && !of.receive.pending && !of.send.pending && !of.exit_watch.pending;
  });
}

// ---- The dead.

void crew::bury(worker_channel& which, time_point now) {
  SHMPOOL_ASSERT(!which.life.is_ended());
  replies_.read_last_words(which, now);
  which.condemned.reset();  // it is dead
  const auto started = reclaim_tasks(which);
  note_death(which, started, now);
  SHMPOOL_ASSERT(!which.has_tasks());  // reclaim_tasks() has taken them all
  which.life.accounted();
  account(which);
  // Before worker_exited(): the end of the last worker may drain the pool, which then clears all segments without a
  // handle.
  which.kept.clear();
  which.initializer_leases.clear();
  which.abandoned.clear();
  scheduler_.worker_exited(which.id, started, now, which.life.died_by_pool());
  loop_.queue().cancel(which.exit_watch);
  loop_.queue().cancel(which.send);
}

void crew::note_death(const worker_channel& which, const std::vector<sched::task_id>& started,
                      time_point now) noexcept {
  const worker_life& life = which.life;
  const bool by_itself = life.exit_reason() == worker_exit::reason::died;
  if (started.size() == 1 && by_itself && !life.died_by_pool()) {
    // If several tasks were started, the culprit is not certain.
    const auto* culprit = static_cast<const task*>(scheduler_.assigned_context(which.id, started.front()));
    if (culprit && culprit->arrays.empty()) killers_.killed(culprit->function, culprit->arguments, now);
  }
  if (!by_itself && life.violation().empty()) return;  // it was told to leave, or was killed on purpose
  if (started.empty() && life.results() == 0 && !life.is_unfit()) problems_.died_idle(life);
}

void crew::account(const worker_channel& which) noexcept {
  worker_exit how;
  how.why = which.life.exit_reason();
  how.tasks = which.life.results();
  which.life.describe_end(how);
  switch (how.why) {
    case worker_exit::reason::died: ++deaths_; break;
    case worker_exit::reason::killed: ++killed_; break;
    case worker_exit::reason::retired:
    case worker_exit::reason::idle: ++retired_; break;
  }
  if (orders_.on_worker_exit) ledger_.notify(orders_.on_worker_exit, how);
}

worker_lost::details crew::end_of(const worker_channel& which) const noexcept {
  worker_lost::details details;
  which.life.describe_end(details);
  details.killed_because = which.life.killed_because();
  const auto used = which.life.cpu_time();
  details.cpu_time = std::chrono::duration_cast<std::chrono::milliseconds>(used);
  if (!orders_.cpu_limit || (details.signal != SIGXCPU && details.signal != SIGKILL)) return details;
  // The kernel counts ticks for the limit, and nanoseconds for the CPU time; hence the tolerance.
  if (used * 11 >= *orders_.cpu_limit * 10) details.cpu_limit = *orders_.cpu_limit;
  return details;
}

void crew::count(pool_stats& stats) const noexcept {
  stats.workers_started = started_;
  stats.workers_retired = retired_;
  stats.workers_killed = killed_;
  stats.worker_deaths = deaths_;
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
      worker_channel* const about = find(heard->worker);
      if (!about || heard->what != server_channel::report::kind::spawned || !heard->process) continue;
      about->life.spawned(heard->message.pid);
      about->process = std::move(heard->process);
    }
  }
}

void crew::end_all(const char* why, time_point deadline) noexcept {
  try {
    meet_last_workers(deadline);
    each([&](worker_channel& of) {
      if (of.process) kill(of, of.life.kill(why), monotonic_clock::now());
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
  if (loop_.is_refused()) {
    for (auto& [id, channel] : channels_) loop_.outlive(std::move(channel));
  }
  channels_.clear();
}

}  // namespace shmpool::pool
