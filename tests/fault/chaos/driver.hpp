// Runs rounds, each in a child process that may be killed, and counts afterwards what is left: storms, which kill
// workers and fork servers, and parent deaths.
#pragma once

#include "fault/chaos/ledger.hpp"

#include <shmpool/options.hpp>

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace shmpool::chaos {

struct driver_options {
  std::uint64_t seed = 0;
  std::uint64_t kills = 500;  ///< of workers, by signals and at fault points
  std::uint64_t parent_kills = 50;
  std::chrono::seconds at_most{0};  ///< 0: until the kills are done
  std::optional<backend> loop;      ///< either, at random, if none is named
  std::optional<backing> memory;
};

class driver {
 public:
  explicit driver(const driver_options& options);
  driver(const driver&) = delete;
  driver& operator=(const driver&) = delete;
  ~driver();

  /// 0, or 1 after a broken promise, which was reported then.
  int run();

 private:
  /// A child that runs run_storm().
  struct child {
    pid_t pid = 0;
    std::string mark;
  };

  bool storm();
  bool parent_death();
  bool kill_parent(const child& victim, unsigned way, std::string& finding);
  child start(const std::string& mark, std::vector<std::string> arguments, const std::string& faults);
  /// The wait status, or nothing after a time.
  static std::optional<int> wait_for(pid_t pid, std::chrono::milliseconds at_most);
  std::vector<std::string> prefixes() const;
  void collect(const ledger& round);
  bool broken(const std::string& finding) const;
  void summary() const;
  std::uint64_t worker_kills() const noexcept;

  std::uint64_t dice(std::uint64_t sides) { return random_() % sides; }
  std::vector<std::string> common_arguments(std::uint64_t seed);

  driver_options options_;
  std::mt19937_64 random_;
  std::string directory_;
  std::optional<ledger_file> book_;  // of the round
  bool private_shm_ = false;
  std::string round_;  // what was done, for a finding
  std::uint64_t rounds_ = 0, storms_ = 0, parent_kills_ = 0;
  std::array<std::uint64_t, counts> totals_{};
  std::map<std::string, std::uint64_t> faults_;
  std::chrono::milliseconds longest_cleanup_{0};
  std::string slowest_;     ///< the round of that
  std::uint64_t slow_ = 0;  ///< took more than the second that is promised
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace shmpool::chaos
