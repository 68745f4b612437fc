#include "pool/diagnosis.hpp"

#include <chrono>
#include <new>
#include <utility>

namespace shmpool::pool {

void diagnosis::is_unfit(const wire::frame& said, pid_t worker) {
  last_problem_ = {};
  switch (said.header.value) {
    case 0: last_problem_.why = "pool_options::initializer threw"; break;
    case 2: last_problem_.why = "pool_options::finalizer cannot be called"; break;
    default: last_problem_.why = "a worker cannot be set up"; break;
  }
  last_problem_.thrown.emplace(said.body.begin(), said.body.end());
  last_problem_.worker_pid = worker;
}

void diagnosis::died_idle(const worker_life& dead) noexcept {
  try {
    last_problem_ = {};
    last_death_ = dead.describe_death();
    if (!dead.is_ready()) last_death_ += has_initializer_ ? ", in pool_options::initializer" : ", while it started";
  } catch (const std::bad_alloc&) {
    last_death_.clear();
  }
}

void diagnosis::breaks(detail::breakage why) noexcept {
  if (!std::exchange(broken_, true)) *for_good_ = std::move(why);
}

std::shared_ptr<const detail::breakage> diagnosis::why_broken(
    bool for_good, std::optional<monotonic_clock::time_point> next_start) const {
  if (for_good) return for_good_;
  auto result = std::make_shared<detail::breakage>(last_problem_);
  if (result->why.empty()) result->why = "workers die before they have run a task; the last one: " + last_death_;
  if (next_start) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*next_start - monotonic_clock::now()).count();
    result->outlook = "; the pool tries again with the first submit";
    if (left > 0) result->outlook += " after " + std::to_string(left) + " ms";
  }
  return result;
}

}  // namespace shmpool::pool
