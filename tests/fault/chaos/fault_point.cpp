// What happens at the library's fault points: SHMPOOL_FAULT holds rules "name:percent[:signal]" with commas between.
// A name may end in *, the signal is a number (SIGKILL where none is said). The first rule that fits a name decides.
// Each process draws its own numbers, seeded by its pid.
//
// Thread safety: any thread. No lock and no allocation, since a worker is forked at one of these points.
#include "process/fault_point.hpp"

#include "fault/chaos/ledger.hpp"

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <string_view>

namespace shmpool {

namespace {

struct rule {
  std::string_view name;
  double percent = 0;
  int signal = SIGKILL;

  bool fits(std::string_view point) const noexcept {
    return name.ends_with('*') ? point.starts_with(name.substr(0, name.size() - 1)) : point == name;
  }
};

struct rule_list {
  std::array<rule, 8> rules;
  std::size_t count = 0;

  rule_list() noexcept {
    const char* text = std::getenv("SHMPOOL_FAULT");
    std::string_view rest = text ? text : "";
    while (!rest.empty() && count != rules.size()) {
      const std::string_view one = rest.substr(0, rest.find(','));
      rest.remove_prefix(std::min(rest.size(), one.size() + 1));
      rule& made = rules[count++];
      const auto colon = one.find(':');
      made.name = one.substr(0, colon);
      if (colon == std::string_view::npos) continue;
      char* end = nullptr;
      made.percent = std::strtod(one.data() + colon + 1, &end);
      if (*end == ':') made.signal = std::atoi(end + 1);
    }
  }
};

std::uint64_t draw() noexcept {
  static std::atomic<std::uint64_t> state{0};
  static std::atomic<pid_t> seeded_for{0};
  if (const pid_t pid = ::getpid(); seeded_for.exchange(pid) != pid) {
    state = chaos::scramble(static_cast<std::uint64_t>(pid)) ^ chaos::now_ns();
  }
  return chaos::scramble(state.fetch_add(0x9e3779b97f4a7c15U));
}

}  // namespace

void fault_point(const char* name) noexcept {
  static const rule_list all;
  for (std::size_t i = 0; i != all.count; ++i) {
    const rule& each = all.rules[i];
    if (!each.fits(name)) continue;
    if (static_cast<double>(draw() % 1'000'000) >= each.percent * 10'000) return;
    chaos::ledger* const book = chaos::open_ledger();
    if (book && !book->note_fault(name, each.signal)) return;  // the run has had its share of faults
    ::kill(::getpid(), each.signal);
    return;
  }
}

}  // namespace shmpool
