// The application dies, alone, with its fork server, or with everything: what is left a second later?
#include "fault/chaos/census.hpp"
#include "fault/chaos/driver.hpp"
#include "support/processes.hpp"

#include <shmpool/shm_handle.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <iterator>
#include <string>
#include <thread>

namespace shmpool::chaos {

using namespace std::chrono_literals;

namespace {

enum way : unsigned {
  killed,         ///< SIGKILL
  crashed,        ///< SIGSEGV or SIGABRT
  executes,       ///< becomes another program
  at_a_point,     ///< killed at a fault point
  stopped_first,  ///< stopped for a while, and then killed
  workers_stopped,
  with_server,  ///< the fork server, and then the parent
  everything,
  ways,
};

constexpr const char* names[] = {"killed",        "crashed",         "executes",    "at a point",
                                 "stopped first", "workers stopped", "with server", "everything"};

constexpr const char* parent_faults[] = {
    "parent.lock_file:30", "parent.locked:30",  "parent.connected:30",    "parent.worker_asked:20",
    "parent.drained:30",   "parent.closing:30", "parent.segment_named:3", "parent.worker_asked:20:11",
};

}  // namespace

bool driver::parent_death() {
  const auto how = static_cast<unsigned>(dice(ways));
  auto arguments = common_arguments(random_());
  arguments.push_back("--pools=0");
  arguments.push_back("--kills=" + std::to_string(dice(3)));
  arguments.push_back("--faults=1");
  std::string faults;
  if (how == at_a_point) faults = parent_faults[dice(std::size(parent_faults))];
  const child victim = start(std::string("parent ") + names[how], arguments, faults);
  ++parent_kills_;
  std::string finding;
  const bool good = kill_parent(victim, how, finding);
  collect(**book_);
  if (how == executes) ::kill(victim.pid, SIGKILL);
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }
  if (!good) {
    for (const pid_t each : marked_processes(victim.mark)) ::kill(each, SIGKILL);
    return broken(finding);
  }
  return true;
}

bool driver::kill_parent(const child& victim, unsigned how, std::string& finding) {
  const bool orphans = how == with_server || how == everything;
  // Often while it starts.
  const auto moment = std::chrono::microseconds(dice(dice(3) == 0 ? 30'000 : 200'000));
  if (how == at_a_point) {
    if (const auto status = wait_for(victim.pid, 3s); status && !WIFSIGNALED(*status)) {
      finding = "it ended before it was killed, wait status " + std::to_string(*status);
      return false;
    }
    ::kill(victim.pid, SIGKILL);
  } else {
    std::this_thread::sleep_for(moment);
    if (int status = 0; ::waitpid(victim.pid, &status, WNOHANG) == victim.pid) {
      finding = "it ended before it was killed, wait status " + std::to_string(status);
      return false;
    }
  }
  switch (how) {
    case killed: ::kill(victim.pid, SIGKILL); break;
    case crashed: ::kill(victim.pid, dice(2) == 0 ? SIGSEGV : SIGABRT); break;
    case executes: ::kill(victim.pid, SIGUSR1); break;
    case stopped_first:
      ::kill(victim.pid, SIGSTOP);
      std::this_thread::sleep_for(std::chrono::milliseconds(dice(30)));
      ::kill(victim.pid, SIGKILL);
      break;
    case workers_stopped:
      for (const pid_t each : testing::workers_of(victim.pid)) ::kill(each, SIGSTOP);
      ::kill(victim.pid, SIGKILL);
      break;
    case with_server:
      ::kill(victim.pid, SIGSTOP);  // so that it starts no other
      if (const pid_t server = testing::fork_server_of(victim.pid)) ::kill(server, SIGKILL);
      ::kill(victim.pid, SIGKILL);
      // What its storm had stopped a moment ago it would have continued; one that was stopped between its fork and
      // prctl(PR_SET_PDEATHSIG) does not die with the server before that.
      for (const pid_t each : marked_processes(victim.mark)) ::kill(each, SIGCONT);
      break;
    case everything:
      ::kill(victim.pid, SIGSTOP);
      for (const pid_t each : marked_processes(victim.mark)) ::kill(each, SIGKILL);
      ::kill(victim.pid, SIGKILL);  // it may not have come as far as to carry the mark
      break;
    default: break;
  }
  const auto prefixes = this->prefixes();
  const pid_t stays = how == executes ? victim.pid : 0;
  const auto took = wait_for_nothing(victim.mark, stays, prefixes, !orphans, finding);
  if (!finding.empty()) return false;
  if (took > 1s) ++slow_;
  if (took > longest_cleanup_) {
    longest_cleanup_ = took;
    slowest_ = round_;
  }
  if (orphans) {
    shmpool::reap_orphans();
    wait_for_nothing(victim.mark, stays, prefixes, true, finding);
    if (!finding.empty()) finding = "after reap_orphans(): " + finding;
  }
  return finding.empty();
}

}  // namespace shmpool::chaos
