// What tests see of processes and of /dev/shm from outside: who is whose child, which pools a process has, which names
// a pool has left, and waiting for such things with a bound.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace shmpool::testing {

/// Waits until `event()` is true, looking every millisecond; false if it takes longer than `patience`.
template <class Event>
bool happens(Event event, std::chrono::milliseconds patience = std::chrono::seconds(10)) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!event()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    ::poll(nullptr, 0, 1);
  }
  return true;
}

/// Runs one test of this program (named DISABLED_, so that it is not run otherwise) as a program of its own, started
/// afresh, and returns its wait status: 0 if it passed. For what ends with main(): a forked child cannot leave by
/// exit() if Asio's threads, of which it has the traces only, are to be joined there.
inline int run_as_program(const char* test) {
  const std::string filter = std::string("--gtest_filter=") + test;
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::execl("/proc/self/exe", "program", filter.c_str(), "--gtest_also_run_disabled_tests", "--gtest_brief=1",
            "--gtest_repeat=1", static_cast<char*>(nullptr));
    ::_exit(127);
  }
  int status = -1;
  ::waitpid(pid, &status, 0);
  return status;
}

struct process {
  pid_t pid = 0;
  pid_t parent = 0;
  char state = '?';  ///< as in /proc/<pid>/stat; Z: a zombie
  std::string name;
};

/// True and the facts, if there is such a process.
inline bool look_at(pid_t pid, process& out) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(stat, line)) return false;
  const auto open = line.find('('), close = line.rfind(')');
  if (open == std::string::npos || close == std::string::npos) return false;
  out.pid = pid;
  out.name = line.substr(open + 1, close - open - 1);
  return std::sscanf(line.c_str() + close + 2, "%c %d", &out.state, &out.parent) == 2;
}

inline std::vector<process> children_of(pid_t parent) {
  std::vector<process> result;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (process each; look_at(std::stoi(name), each) && each.parent == parent) result.push_back(each);
  }
  return result;
}

/// The fork server of `parent`, or 0.
inline pid_t fork_server_of(pid_t parent) {
  for (const process& each : children_of(parent)) {
    if (each.name == "shmpool-server" && each.state != 'Z') return each.pid;
  }
  return 0;
}

/// The same for a process that has one, which may not have got so far as to carry its name. Throws if there is none:
/// its pid is used to send signals, and 0 would mean everybody.
inline pid_t running_fork_server_of(pid_t parent) {
  pid_t server = 0;
  if (!happens([&] { return (server = fork_server_of(parent)) != 0; }))
    throw std::runtime_error("there is no fork server");
  return server;
}

/// The workers of `parent`, zombies included.
inline std::vector<pid_t> workers_of(pid_t parent) {
  std::vector<pid_t> result;
  if (const pid_t server = fork_server_of(parent)) {
    for (const process& each : children_of(server)) result.push_back(each.pid);
  }
  return result;
}

/// True if the process is gone or a zombie.
inline bool is_dead(pid_t pid) {
  process each;
  return !look_at(pid, each) || each.state == 'Z' || each.state == 'X';
}

/// True if nothing of the process is left, no zombie either.
inline bool is_gone(pid_t pid) {
  process each;
  return !look_at(pid, each);
}

/// What comes before the last part of the names of each pool that the process has ("shmpool.<uid>.<id>."), by the lock
/// files that it holds open.
inline std::vector<std::string> pools_of(pid_t pid) {
  std::vector<std::string> result;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd", error)) {
    const std::filesystem::path target = std::filesystem::read_symlink(entry.path(), error);
    const std::string name = target.filename();
    if (target.parent_path() == "/dev/shm" && name.ends_with(".lock"))
      result.push_back(name.substr(0, name.size() - 4));
  }
  std::sort(result.begin(), result.end());
  return result;
}

/// Names in /dev/shm that begin so.
inline std::vector<std::string> names_with(const std::string& prefix) {
  std::vector<std::string> result;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm", error)) {
    if (const std::string name = entry.path().filename(); name.starts_with(prefix)) result.push_back(name);
  }
  std::sort(result.begin(), result.end());
  return result;
}

inline std::size_t open_descriptors(pid_t pid = ::getpid()) {
  std::error_code error;
  const std::filesystem::directory_iterator all("/proc/" + std::to_string(pid) + "/fd", error);
  return static_cast<std::size_t>(std::distance(begin(all), end(all))) - (pid == ::getpid() ? 1 : 0);
}

}  // namespace shmpool::testing
