// Kills, crashes, stops and continues the workers of this process, and its fork server, from a thread of its own, and
// keeps book: what dies without being in the book died for another reason.
#pragma once

#include "fault/chaos/ledger.hpp"

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace shmpool::chaos {

/// Thread safety: all members.
class kill_book {
 public:
  /// To be called before the signal is sent.
  void note(pid_t worker, int signal);
  void note_server(pid_t server);
  bool has(pid_t worker, int signal) const;
  bool has_any(pid_t worker) const;
  bool has_server(pid_t server) const;
  bool has_any_server() const;

 private:
  mutable std::mutex mutex_;
  std::map<pid_t, std::set<int>> workers_;
  std::set<pid_t> servers_;
};

class killer {
 public:
  struct orders {
    std::uint64_t seed = 0;
    int kills = 5;              ///< workers to end by a signal
    int server_kills = 0;       ///< fork servers to end
    bool stop = true;           ///< stop and continue workers, too
    unsigned pause_us = 8'000;  ///< most time between two deeds
  };

  killer(const orders& given, kill_book& book, ledger& figures);
  killer(const killer&) = delete;
  killer& operator=(const killer&) = delete;
  /// Continues what was stopped.
  ~killer();

  /// True once all orders were carried out.
  bool done() const noexcept { return done_; }

 private:
  void work();
  void strike_worker();
  void strike_server();
  void stop_worker();
  void signal_group();
  std::uint64_t dice(std::uint64_t sides) { return random_() % sides; }

  orders left_;
  kill_book& book_;
  ledger& figures_;
  std::mt19937_64 random_;
  std::atomic<bool> done_{false}, end_{false};
  std::thread thread_;  // last: it uses the others
};

/// The workers of this process's pools that it can control, by the process descriptors that it has open.
std::vector<pid_t> controlled_workers();

/// The signal as the table of a process has it, sent if the process still has the parent that it had.
bool send_signal(pid_t child, pid_t parent, int signal);

}  // namespace shmpool::chaos
