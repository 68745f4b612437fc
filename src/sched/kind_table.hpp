// What is known of tasks that run alike, those of one function: how long they usually run, and how often they kill the
// worker that runs them. Kind 0 is like no other: nothing is known of it.
//
// Thread safety: none.
#pragma once

#include "sched/scheduler.hpp"

#include <cstdint>
#include <vector>

namespace shmpool::sched {

class kind_table {
 public:
  explicit kind_table(const options& settings) : settings_(settings), first_pause_(settings.quarantine_time) {}

  static constexpr duration unknown = duration::max();

  /// Makes room for what there is to know of a kind. The others need no memory.
  void know(std::uint32_t kind) {
    if (kind >= kinds_.size()) kinds_.resize(kind + std::size_t{1}, record{first_pause_});
  }

  /// Whether it kills so often that others should not have to wait for it.
  bool risky(std::uint32_t kind) const noexcept;
  /// How long one is expected to run: as a moving average says, or unknown. Also of those that kill often: what waits
  /// behind one has to be handed out again, and to wait for a replacement perhaps.
  duration usual_run(std::uint32_t kind) const noexcept;

  /// One has ended and its worker lives. True if the kind was risky, and is not any more.
  bool ended(std::uint32_t kind, duration run) noexcept;
  /// One has killed its worker. True if the kind is quarantined for that, and was not before.
  bool killed(std::uint32_t kind, time_point now) noexcept;

  /// Whether one may be taken in. Of a kind in quarantine one is, now and then: if it ends well, so does the
  /// quarantine.
  bool admits(std::uint32_t kind, time_point now) const noexcept {
    return !quarantined(kind) || now >= kinds_[kind].until;
  }
  /// One was taken in: if the kind is in quarantine, it is the one.
  void taken_in(std::uint32_t kind, time_point now) noexcept;
  bool quarantined(std::uint32_t kind) const noexcept { return kind < kinds_.size() && kinds_[kind].quarantined; }
  /// When the next one may be taken in.
  time_point admits_at(std::uint32_t kind) const noexcept { return kinds_[kind].until; }
  /// Kinds in quarantine.
  std::size_t quarantined() const noexcept { return quarantined_; }

 private:
  struct record {
    duration pause;  ///< until the next one is let through
    duration usual = unknown;
    std::uint32_t risk = 0;  ///< moving average of how many kill, in 256ths
    /// Less `kills_forgiven` for each that ended otherwise: more than nine in ten, or it stays small.
    std::uint32_t kills = 0;
    bool quarantined = false;
    bool probing = false;  ///< one was let through
    time_point until{};
  };

  options settings_;
  duration first_pause_;
  std::vector<record> kinds_;
  std::size_t quarantined_ = 0;
};

}  // namespace shmpool::sched
