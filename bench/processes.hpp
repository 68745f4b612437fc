// What this process and all that descend from it use meanwhile: for the pool these are the fork server and the workers,
// for a pair of processes the other one.
#pragma once

#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include <cctype>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace bench {

struct usage {
  double cpu_us = 0;        ///< CPU time of all threads, in microseconds
  double minor_faults = 0;  ///< page faults without I/O
};

/// Counts from its construction, for the processes that exist then.
class usage_meter {
 public:
  usage_meter() : family_(find_family()), before_(now()) {}

  usage so_far() const {
    const usage after = now();
    return {after.cpu_us - before_.cpu_us, after.minor_faults - before_.minor_faults};
  }

 private:
  struct process {
    pid_t parent = 0;
    double minor_faults = 0;
  };

  // Nothing for a process that is gone.
  static std::optional<process> look_at(pid_t pid) {
    std::string line;
    std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/stat"), line);
    const auto end_of_name = line.rfind(')');
    if (end_of_name == std::string::npos) return std::nullopt;
    std::istringstream fields(line.substr(end_of_name + 1));
    std::string skipped;
    process found;
    fields >> skipped >> found.parent;
    for (int field = 5; field < 10; ++field) fields >> skipped;
    fields >> found.minor_faults;
    return found;
  }

  static std::vector<pid_t> find_family() {
    std::multimap<pid_t, pid_t> children;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const std::string name = entry.path().filename();
      if (std::isdigit(static_cast<unsigned char>(name[0])) == 0) continue;
      const pid_t pid = std::stoi(name);
      if (const auto found = look_at(pid)) children.emplace(found->parent, pid);
    }
    std::vector<pid_t> family{::getpid()};
    for (std::size_t i = 0; i < family.size(); ++i) {
      const auto [first, last] = children.equal_range(family[i]);
      for (auto child = first; child != last; ++child) family.push_back(child->second);
    }
    return family;
  }

  // By the process's own clock, which also counts what runs right now; the files in /proc are as old as the last tick.
  static double cpu_us(pid_t pid) {
    clockid_t clock{};
    timespec time{};
    if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &time) != 0) return 0;
    return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
  }

  usage now() const {
    usage result;
    for (const pid_t pid : family_) result.cpu_us += cpu_us(pid);
    for (const pid_t pid : family_) {
      if (const auto found = look_at(pid)) result.minor_faults += found->minor_faults;
    }
    return result;
  }

  const std::vector<pid_t> family_;
  const usage before_;
};

}  // namespace bench
