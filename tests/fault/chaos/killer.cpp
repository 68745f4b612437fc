#include "fault/chaos/killer.hpp"

#include "process/unique_fd.hpp"
#include "support/processes.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <string>

namespace shmpool::chaos {

using testing::look_at;
using testing::process;

void kill_book::note(pid_t worker, int signal) {
  const std::lock_guard lock(mutex_);
  workers_[worker].insert(signal);
}

void kill_book::note_server(pid_t server) {
  const std::lock_guard lock(mutex_);
  servers_.insert(server);
}

bool kill_book::has(pid_t worker, int signal) const {
  const std::lock_guard lock(mutex_);
  const auto found = workers_.find(worker);
  return found != workers_.end() && found->second.contains(signal);
}

bool kill_book::has_any(pid_t worker) const {
  const std::lock_guard lock(mutex_);
  return workers_.contains(worker);
}

bool kill_book::has_server(pid_t server) const {
  const std::lock_guard lock(mutex_);
  return servers_.contains(server);
}

bool kill_book::has_any_server() const {
  const std::lock_guard lock(mutex_);
  return !servers_.empty();
}

std::vector<pid_t> controlled_workers() {
  std::vector<pid_t> result;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fdinfo", error)) {
    std::ifstream info(entry.path());
    for (std::string line; std::getline(info, line);) {
      // Only descriptors of processes have this line; of one that is gone it says -1.
      if (!line.starts_with("Pid:")) continue;
      if (const int pid = std::stoi(line.substr(4)); pid > 0) result.push_back(pid);
    }
  }
  return result;
}

bool send_signal(pid_t child, pid_t parent, int signal) {
  // The descriptor first: what is then still this parent's child cannot be somebody else under a pid used anew.
  const unique_fd descriptor(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
  process facts;
  if (!descriptor || !look_at(child, facts) || facts.parent != parent || facts.state == 'Z') return false;
  return ::syscall(SYS_pidfd_send_signal, descriptor.get(), signal, nullptr, 0) == 0;
}

killer::killer(const orders& given, kill_book& book, ledger& figures)
    : left_(given), book_(book), figures_(figures), random_(given.seed), thread_([this] { work(); }) {
}

killer::~killer() {
  end_ = true;
  thread_.join();
}

void killer::work() {
  while (!end_) {
    std::this_thread::sleep_for(std::chrono::microseconds(dice(left_.pause_us)));
    const auto deed = dice(10);
    if (deed < 2 && left_.stop) {
      stop_worker();
    } else if (deed == 3) {
      signal_group();
    } else if (deed == 2 && left_.server_kills != 0) {
      strike_server();
    } else if (left_.kills != 0) {
      strike_worker();
    } else if (left_.server_kills != 0) {
      strike_server();
    } else {
      done_ = true;
    }
  }
}

void killer::strike_worker() {
  const auto workers = controlled_workers();
  if (workers.empty()) return;
  const pid_t victim = workers[dice(workers.size())];
  process facts;
  if (!look_at(victim, facts) || facts.state == 'Z') return;
  const auto way = dice(5);
  const int signal = way == 0 ? SIGSEGV : way == 1 ? SIGABRT : SIGKILL;
  book_.note(victim, signal);
  if (!send_signal(victim, facts.parent, signal)) return;
  figures_.add(signal == SIGKILL ? count::kills : count::faults);
  --left_.kills;
}

void killer::strike_server() {
  const pid_t server = testing::fork_server_of(::getpid());
  if (server == 0) return;
  book_.note_server(server);
  if (!send_signal(server, ::getpid(), dice(3) == 0 ? SIGSEGV : SIGKILL)) return;
  figures_.add(count::server_kills);
  --left_.server_kills;
}

/// Not in the book: nobody may die of it.
void killer::signal_group() {
  constexpr int signals[] = {SIGTERM, SIGHUP, SIGINT, SIGQUIT};
  const int signal = signals[dice(4)];
  for (const pid_t each : controlled_workers()) {
    process facts;
    if (look_at(each, facts)) send_signal(each, facts.parent, signal);
  }
  figures_.add(count::group_signals);
}

void killer::stop_worker() {
  const auto workers = controlled_workers();
  if (workers.empty()) return;
  const pid_t victim = workers[dice(workers.size())];
  process facts;
  if (!look_at(victim, facts) || !send_signal(victim, facts.parent, SIGSTOP)) return;
  figures_.add(count::stops);
  std::this_thread::sleep_for(std::chrono::microseconds(dice(15'000)));
  send_signal(victim, facts.parent, SIGCONT);
}

}  // namespace shmpool::chaos
