#include "fault/chaos/census.hpp"

#include "support/processes.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace shmpool::chaos {

using namespace std::chrono_literals;
using testing::children_of;
using testing::names_with;
using testing::open_descriptors;
using testing::process;

namespace {

/// After this something counts as left behind. The contract says one second, for a machine that has one to give.
constexpr auto patience = 3s;

}  // namespace

std::string stats_finding(workload& load, const std::string& prefix) {
  const pool_stats stats = load.pool->stats();
  const std::size_t processes = controlled_workers().size();
  const std::size_t names = prefix.empty() ? 0 : names_with(prefix).size();
  std::string text;
  const auto expect = [&](bool holds, const char* what) {
    if (!holds) text += std::string(text.empty() ? "" : ", ") + what;
  };
  expect(stats.queued == 0, "tasks queued");
  expect(stats.assigned == 0, "tasks assigned");
  expect(stats.submitted == stats.completed + stats.failed, "submitted is not completed and failed");
  expect(stats.workers == processes, "workers are not the processes");
  expect(stats.live_segments >= load.arrays_held(), "fewer live segments than arrays are held");
  expect(stats.live_segments <= load.arrays_held() + 3 * stats.workers, "more live segments than can be held");
  if (!prefix.empty()) expect(names == stats.live_segments + stats.cached_segments + 1, "names are not the segments");
  if (text.empty()) return text;
  return "stats() at rest: " + text + " (queued " + std::to_string(stats.queued) + ", assigned " +
         std::to_string(stats.assigned) + ", submitted " + std::to_string(stats.submitted) + ", completed " +
         std::to_string(stats.completed) + ", failed " + std::to_string(stats.failed) + ", workers " +
         std::to_string(stats.workers) + " of " + std::to_string(processes) + " processes, live " +
         std::to_string(stats.live_segments) + ", cached " + std::to_string(stats.cached_segments) + ", names " +
         std::to_string(names) + ")";
}

std::string self_census::finding(bool server_died) {
  const std::size_t descriptors = open_descriptors();
  if (descriptors_ == 0) descriptors_ = descriptors;
  if (descriptors != descriptors_) {
    return "descriptors: " + std::to_string(descriptors) + ", after the first pool " + std::to_string(descriptors_);
  }
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/dev/shm/shmpool.") != std::string::npos || line.find("memfd:shmpool") != std::string::npos) {
      return "mapping: " + line;
    }
  }
  std::string left;
  const auto only_a_server = [&] {
    left.clear();
    pid_t server = 0;
    for (const process& each : children_of(::getpid())) {
      const bool dead_server = each.state == 'Z' && server_died;
      if (!dead_server && (each.state == 'Z' || server != 0)) {
        left = "child " + std::to_string(each.pid) + " " + each.name + " in state " + each.state;
      }
      if (!dead_server) server = each.pid;
    }
    if (server == 0) return left.empty();
    for (const process& each : children_of(server)) {
      left = "worker " + std::to_string(each.pid) + " in state " + each.state;
    }
    return left.empty();
  };
  return testing::happens(only_a_server, patience) ? std::string() : left;
}

std::vector<pid_t> marked_processes(const std::string& mark) {
  std::vector<pid_t> result;
  const std::string wanted = std::string(mark_variable) + "=" + mark;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "environ", std::ios::binary);
    const std::string all{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    for (auto at = all.find(wanted); at != std::string::npos; at = all.find(wanted, at + 1)) {
      const bool whole = at + wanted.size() == all.size() || all[at + wanted.size()] == '\0';
      if ((at != 0 && all[at - 1] != '\0') || !whole) continue;
      if (const pid_t pid = std::stoi(name); !testing::is_dead(pid)) result.push_back(pid);
      break;
    }
  }
  return result;
}

std::chrono::milliseconds wait_for_nothing(const std::string& mark, pid_t except,
                                           const std::vector<std::string>& prefixes, bool names, std::string& finding) {
  const auto begin = std::chrono::steady_clock::now();
  std::string left;
  const bool gone = testing::happens(
      [&] {
        left.clear();
        for (const pid_t each : marked_processes(mark)) {
          process facts;
          if (each == except || !testing::look_at(each, facts)) continue;
          left += "process " + std::to_string(each) + " " + facts.name + " in state " + facts.state + "; ";
        }
        if (names) {
          for (const auto& prefix : prefixes) {
            for (const auto& each : names_with(prefix)) left += each + "; ";
          }
        }
        // This process is where orphans go. One whose first thread is a zombie may still end, and hold its files till
        // then.
        pid_t ended = 0;
        while ((ended = ::waitpid(-1, nullptr, WNOHANG)) > 0) {
        }
        if (ended == 0 && except == 0 && left.empty()) left = "a child that does not end; ";
        return left.empty();
      },
      patience);
  if (!gone) finding = "left behind: " + left;
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin);
}

}  // namespace shmpool::chaos
