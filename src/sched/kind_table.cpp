#include "sched/kind_table.hpp"

#include "sched/deadline_heap.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace shmpool::sched {

namespace {

constexpr std::uint32_t kills_forgiven = 9;
constexpr duration longest_quarantine = std::chrono::minutes{1};

}  // namespace

bool kind_table::ended(std::uint32_t kind, duration run) noexcept {
  if (kind == 0) return false;
  record& known = kinds_[kind];
  known.usual.add(run);
  if (known.risk == 0) return false;  // as for most kinds
  const bool was_risky = known.risk > tolerable;
  known.risk -= (known.risk + 7) / 8;
  known.kills -= std::min(known.kills, kills_forgiven);
  if (known.quarantined) {
    known.quarantined = known.probing = false;
    known.kills = 0;
    known.pause = first_pause_;
    --quarantined_;
  }
  return was_risky && known.risk <= tolerable;
}

bool kind_table::killed(std::uint32_t kind, time_point now) noexcept {
  if (kind == 0) return false;
  record& known = kinds_[kind];
  known.risk += (256 - known.risk) / 8;
  if (settings_.quarantine_after == 0) return false;
  if (known.quarantined) {
    // Tasks that were under way when the quarantine began tell nothing new; the one that was let through does.
    if (!std::exchange(known.probing, false)) return false;
    known.pause = std::min(2 * known.pause, std::max(longest_quarantine, first_pause_));
    known.until = later(now, known.pause);
    return false;
  }
  if (++known.kills < settings_.quarantine_after) return false;
  known.quarantined = true;
  known.until = later(now, known.pause);
  ++quarantined_;
  return true;
}

void kind_table::begin_probe(record& known, time_point now) noexcept {
  known.until = later(now, known.pause);  // should nothing be heard of the task
  known.probing = true;
}

}  // namespace shmpool::sched
