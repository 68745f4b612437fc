// Why workers of a pool cannot be started or do not stay alive: the known causes, for the errors of tasks that end
// because of that.
//
// Thread safety: none; the engine's lock guards it. The breakage that why_broken() returns does not change any more.
#pragma once

#include "pool/breakage.hpp"
#include "pool/worker_life.hpp"
#include "process/clock.hpp"
#include "wire/frame.hpp"

#include <memory>
#include <optional>
#include <string>

namespace shmpool::pool {

class diagnosis {
 public:
  explicit diagnosis(bool has_initializer) : has_initializer_(has_initializer) {}

  /// A worker could not be started.
  void cannot_start(std::string why) { start_failure_ = std::move(why); }
  const std::string& why_not_started() const noexcept { return start_failure_; }
  /// A worker has reported that it cannot be set up.
  void is_unfit(const wire::frame& said, pid_t worker);
  /// A worker has died before it had a task.
  void died_idle(const worker_life& dead) noexcept;

  /// The pool is broken for good; the first reason counts.
  void breaks(detail::breakage why) noexcept;
  /// Why tasks end: the pool is broken for good, or cannot be used before `next_start`. Throws std::bad_alloc.
  std::shared_ptr<const detail::breakage> why_broken(bool for_good,
                                                     std::optional<monotonic_clock::time_point> next_start) const;

 private:
  bool has_initializer_;
  bool broken_ = false;
  // Allocated in advance: memory may have run out when it is filled.
  const std::shared_ptr<detail::breakage> for_good_ = std::make_shared<detail::breakage>();
  std::string start_failure_;
  // Why the last worker that never ran a task failed: how it died, or the error and exception that it reported.
  std::string last_death_;
  detail::breakage last_problem_;
};

}  // namespace shmpool::pool
