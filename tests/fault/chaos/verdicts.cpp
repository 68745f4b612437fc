// What may become of a task, and what must not.
#include "fault/chaos/workload.hpp"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <stdexcept>
#include <string_view>

namespace shmpool::chaos {

void end_with(const std::string& finding) {
  const std::string line = "chaos: BROKEN: " + finding + "\n";
  [[maybe_unused]] auto written = ::write(STDERR_FILENO, line.data(), line.size());
  ::_exit(3);
}

void workload::broken(const operation& op, const std::string& what) const {
  const run_record& run = figures_.run(op.first);
  end_with(std::string(op.kind) + " (task " + std::to_string(op.first) + ", " + std::to_string(run.runs) +
           " runs, last in " + std::to_string(run.worker) + " of " + std::to_string(run.server) + "): " + what + "\n" +
           pending());
}

unsigned workload::most_runs(const operation& op) const noexcept {
  unsigned most = 0;
  for (std::size_t i = 0; i != op.count; ++i) most = std::max<unsigned>(most, figures_.run(op.first + i).runs);
  return most;
}

void workload::ended(operation& op, const std::exception_ptr& error, bool right) {
  if (++op.completions != 1) broken(op, "completed " + std::to_string(op.completions) + " times");
  {
    const std::lock_guard lock(pending_mutex_);
    pending_.erase(op.first);
    last_end_ = std::chrono::steady_clock::now();
  }
  --in_flight_;
  if (most_runs(op) > op.attempts) broken(op, "ran more often than it may");
  if (op.endless || op.asked_to_stop) {
    for (std::size_t i = 0; i != op.count; ++i) doomed_.insert(figures_.run(op.first + i).worker);
  }
  if (error) {
    check_error(op, error);
    if (op.check_failed && !op.check_failed()) broken(op, "failed, and left memory in a state that cannot be");
  } else {
    check_value(op, right);
  }
  // It holds arrays, and a timer that is to cancel the task may hold the operation for a while.
  op.check_failed = nullptr;
  if (op.attempts > 1 && figures_.run(op.first).runs > 1) figures_.add(count::retried);
  // The chunks of a map that failed may still be on their way.
  if (!op.many) settled_[op.first] = figures_.run(op.first).runs;
  if (op.chained && running_) launch();
}

void workload::check_value(const operation& op, bool right) {
  if (!right) broken(op, "wrong result");
  if (op.crash >= 0 || op.refusal >= 0 || op.endless) broken(op, "a result of a task that has none");
  for (std::size_t i = 0; i != op.count; ++i) {
    if (figures_.run(op.first + i).runs == 0) broken(op, "a result of a task that did not run");
  }
  figures_.add(count::values);
}

void workload::check_error(operation& op, const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const worker_lost& lost) {
    return check_loss(op, lost);
  } catch (const std::system_error& failed) {
    if (dynamic_cast<const remote_error*>(&failed)) return check_thrown(op, failed);
    if (failed.code() == asio::error::operation_aborted) {
      if (!op.may_abort && !aborting_) broken(op, "aborted, and nobody has cancelled it");
      return figures_.add(count::aborted);
    }
    if (failed.code() == errc::deadline_exceeded) {
      if (!op.may_expire) broken(op, "a deadline that it does not have");
      return figures_.add(count::expired);
    }
    if (failed.code() == errc::array_busy && op.may_be_refused) {
      if (most_runs(op) != 0) broken(op, "refused, and it ran");
      return figures_.add(count::refused);
    }
    // A map that had not submitted all of its elements when the pool was closed.
    if (failed.code() == errc::pool_closed && op.many && !running_) return figures_.add(count::aborted);
    broken(op, failed.what());
  } catch (const std::exception& thrown) {
    return check_thrown(op, thrown);
  } catch (...) {
    broken(op, "an exception that is none of the standard's");
  }
}

void workload::check_loss(const operation& op, const worker_lost& error) {
  const pid_t pid = error.pid();
  const run_record& run = figures_.run(op.first);
  const std::string text = error.what();
  if (!error.started()) broken(op, "lost without having started: " + text);
  if (pid <= 0) broken(op, "lost with an unknown worker: " + text);
  if (!lost_with_.insert(pid).second) broken(op, "the second casualty of one death: " + text);
  if (!op.many && op.attempts == 1 && run.runs != 0 && run.worker != pid) broken(op, "not where it ran: " + text);

  const bool by_itself = op.crash >= 0 && run.worker == pid;
  const fault_record* const at_point = figures_.fault_of(pid);
  const int fault = at_point ? at_point->signal.load() : 0;
  // Where it ran is not known of a task that had not come to its first line, nor of all parts of a map; and one that
  // begins in the moment between its server's death and its own sees another parent already, the reaper of orphans.
  const bool known = run.runs != 0 && !op.many && run.server != ::getppid();
  const bool with_server = known ? book_.has_server(run.server) || figures_.fault_of(run.server) != nullptr
                                 : book_.has_any_server() || figures_.struck_at("server");
  const bool struck = book_.has_any(pid) || (fault != 0 && fault != SIGSTOP);
  if (!struck && !by_itself && !with_server && !doomed_.contains(pid)) broken(op, "nobody killed it: " + text);
  if (!error.status_known()) {
    if (!with_server) broken(op, "it is not known how it ended: " + text);
  } else {
    const bool explained = book_.has(pid, error.signal()) || (fault != 0 && fault == error.signal()) ||
                           (by_itself && is_end_of_crash(op.crash, error.signal(), error.exit_code())) ||
                           (error.signal() == SIGKILL && (with_server || doomed_.contains(pid)));
    if (!explained) broken(op, "it did not end like that: " + text);
  }
  if (at_point && !book_.has_any(pid) && !with_server && !doomed_.contains(pid)) {
    const std::string_view point = at_point->point.data();
    const bool between = point == "worker.frame_read" || point == "worker.replied" || point == "worker.born" ||
                         point == "worker.leaving";
    if (between) broken(op, "lost with a worker that had started nothing, or had answered: " + text);
  }
  if (by_itself && run.runs != 0) figures_.add(count::crashes);
  if (run.runs == 0) figures_.add(count::lost_unstarted);
  figures_.add(count::lost);
}

void workload::check_thrown(const operation& op, const std::exception& error) {
  const auto* remote = dynamic_cast<const remote_error*>(&error);
  if (!remote || op.refusal < 0) broken(op, error.what());
  if (remote->worker_pid() != figures_.run(op.first).worker) broken(op, "thrown elsewhere");
  bool right = false;
  switch (op.refusal) {
    case 0: right = dynamic_cast<const std::domain_error*>(&error) && remote->message() == "as it should"; break;
    case 1: {
      const auto* coded = dynamic_cast<const std::system_error*>(&error);
      right = coded && coded->code() == std::errc::no_child_process;
      break;
    }
    default:
      right = dynamic_cast<const std::runtime_error*>(&error) && remote->message() == "the outer one" &&
              remote->causes().size() == 1 && remote->causes()[0].text == "the inner one";
  }
  if (!right) broken(op, std::string("another exception than the one thrown: ") + error.what());
  figures_.add(count::thrown);
}

void workload::check_settled() const {
  for (const auto& [id, runs] : settled_) {
    if (figures_.run(id).runs != runs) end_with("task " + std::to_string(id) + " ran after it had completed");
  }
}

std::string workload::pending() const {
  const std::lock_guard lock(pending_mutex_);
  const auto now = std::chrono::steady_clock::now();
  std::string text = "pending: " + std::to_string(pending_.size()) + "\n";
  for (const auto& [id, op] : pending_) {
    const run_record& run = figures_.run(id);
    text += "  " + std::string(op->kind) + " " + std::to_string(id) + " for " +
            std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(now - op->begin).count()) + " ms, " +
            std::to_string(run.runs) + " runs, last in " + std::to_string(run.worker) + "\n";
  }
  return text;
}

std::chrono::steady_clock::duration workload::quiet() const {
  const std::lock_guard lock(pending_mutex_);
  return std::chrono::steady_clock::now() - last_end_;
}

}  // namespace shmpool::chaos
