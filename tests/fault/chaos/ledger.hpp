// A file that all processes of one chaos round map: which task ran how often and where, which faults struck, which
// pools there were, and the round's figures. It is no part of any pool, so what it says holds when a pool is wrong.
//
// Thread safety: atomics throughout; any process and thread may write.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace shmpool::chaos {

std::uint64_t now_ns() noexcept;

/// A number in, another one out that looks unrelated (splitmix64).
constexpr std::uint64_t scramble(std::uint64_t x) noexcept {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

enum class count : std::uint8_t {
  values,          ///< tasks that completed with a value
  thrown,          ///< with the exception that they threw
  lost,            ///< with worker_lost
  lost_unstarted,  ///< of these: killed between the claim and the first line of the task
  aborted,         ///< with operation_aborted
  expired,         ///< with deadline_exceeded
  refused,         ///< with array_busy or queue_full
  retried,         ///< completed after more than one run
  kills,           ///< SIGKILL of a worker
  faults,          ///< SIGSEGV or SIGABRT of a worker
  stops,           ///< SIGSTOP of a worker, SIGCONT later
  server_kills,    ///< SIGKILL or SIGSEGV of the fork server
  crashes,         ///< tasks that crashed by themselves
  bursts,          ///< of them
  group_signals,   ///< SIGTERM, SIGHUP, SIGINT or SIGQUIT to all workers at once
  pools,
  last = pools,
};
inline constexpr std::size_t counts = static_cast<std::size_t>(count::last) + 1;

struct run_record {
  std::atomic<std::uint32_t> runs;
  std::atomic<pid_t> worker;
  std::atomic<pid_t> server;
};

struct fault_record {
  std::atomic<pid_t> pid;
  std::atomic<int> signal;
  std::array<char, 32> point;
};

struct ledger {
  static constexpr std::size_t run_slots = std::size_t{1} << 20;
  static constexpr std::size_t fault_slots = 4096;

  std::atomic<std::int64_t> fault_budget;  ///< fault points are quiet at 0
  std::atomic<std::uint64_t> fault_total;
  std::array<fault_record, fault_slots> faults;
  std::array<std::atomic<std::uint64_t>, 256> pool_ids;
  std::atomic<std::uint32_t> pool_count;
  std::array<std::atomic<std::uint64_t>, counts> figures;
  std::array<run_record, run_slots> runs;

  run_record& run(std::uint64_t task) noexcept { return runs[task % run_slots]; }
  void add(count what, std::uint64_t by = 1) noexcept { figures[static_cast<std::size_t>(what)] += by; }
  std::uint64_t figure(count what) const noexcept { return figures[static_cast<std::size_t>(what)]; }

  /// False if the budget is used up. Noted before the fault strikes.
  bool note_fault(const char* point, int signal) noexcept;
  /// The last fault that struck this process, or null.
  const fault_record* fault_of(pid_t pid) const noexcept;
  /// True if a fault has struck at a point whose name begins so.
  bool struck_at(std::string_view prefix) const noexcept;
};

/// The ledger of this round, found through the environment; null if there is none.
ledger* open_ledger() noexcept;

/// Makes a ledger file and removes it in the end.
class ledger_file {
 public:
  explicit ledger_file(std::string path);
  ledger_file(const ledger_file&) = delete;
  ledger_file& operator=(const ledger_file&) = delete;
  ~ledger_file();

  ledger* operator->() const noexcept { return book_; }
  ledger& operator*() const noexcept { return *book_; }
  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
  ledger* book_ = nullptr;
};

inline constexpr const char* ledger_variable = "CHAOS_LEDGER";
/// Marks every process of a round.
inline constexpr const char* mark_variable = "CHAOS_ROUND";

}  // namespace shmpool::chaos
