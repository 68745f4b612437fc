// Records for each kind of tasks, those of one function, how long they usually run and how often they kill their
// worker. Nothing is recorded of kind 0, whose tasks are like no other.
//
// Thread safety: none.
#pragma once

#include "sched/scheduler.hpp"

#include <shmpool/detail/run_mean.hpp>

#include <cstdint>
#include <vector>

namespace shmpool::sched {

class kind_table {
 public:
  explicit kind_table(const options& settings) : settings_(settings), first_pause_(settings.quarantine_time) {}

  static constexpr duration unknown = detail::recent_run_mean::unknown;

  /// Makes room for the record of a kind. The other functions need no memory.
  void know(std::uint32_t kind) {
    if (kind >= kinds_.size()) kinds_.resize(kind + std::size_t{1}, record{first_pause_});
  }

  /// Whether the kind kills so often that other tasks should not have to wait behind it.
  bool risky(std::uint32_t kind) const noexcept { return kind != 0 && kinds_[kind].risk > tolerable; }
  /// Expected run time of a task of the kind, or unknown. Unknown for a risky kind, too: tasks behind
  /// a risky one have to be handed out again, and perhaps wait for a replacement worker.
  duration usual_run(std::uint32_t kind) const noexcept {
    return kind == 0 || risky(kind) ? unknown : kinds_[kind].usual.get();
  }

  /// A task has ended and its worker lives. True if the kind was risky, and is not any more.
  bool ended(std::uint32_t kind, duration run) noexcept;
  /// A task has killed its worker. True if the kind is quarantined for that, and was not before.
  bool killed(std::uint32_t kind, time_point now) noexcept;

  /// Whether a task may be taken in. A kind in quarantine gets one through now and then: if that task ends well, so
  /// does the quarantine.
  bool admits(std::uint32_t kind, time_point now) const noexcept {
    return !quarantined(kind) || now >= kinds_[kind].until;
  }
  /// A task was taken in: if the kind is in quarantine, this task is the probe.
  void taken_in(std::uint32_t kind, time_point now) noexcept {
    if (quarantined(kind)) begin_probe(kinds_[kind], now);
  }
  bool quarantined(std::uint32_t kind) const noexcept { return kind < kinds_.size() && kinds_[kind].quarantined; }
  /// When the next task may be taken in.
  time_point admits_at(std::uint32_t kind) const noexcept { return kinds_[kind].until; }
  /// Kinds in quarantine.
  std::size_t quarantined() const noexcept { return quarantined_; }

 private:
  /// A death now and then is no sign; three in a row are too many, and make an average of 84.
  static constexpr std::uint32_t tolerable = 64;

  struct record {
    duration pause;  ///< until the next task is let through
    detail::recent_run_mean usual{};
    std::uint32_t risk = 0;  ///< moving average of the share that kills, in 256ths
    /// Less `kills_forgiven` for each task that ended otherwise: stays small unless more than nine in ten kill.
    std::uint32_t kills = 0;
    bool quarantined = false;
    bool probing = false;  ///< one task was let through
    time_point until{};
  };

  static void begin_probe(record& known, time_point now) noexcept;

  options settings_;
  duration first_pause_;
  std::vector<record> kinds_;
  std::size_t quarantined_ = 0;
};

}  // namespace shmpool::sched
