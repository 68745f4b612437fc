// Turns the scheduler's reason why a task has no result into the user's error.
//
// Thread safety: none; the engine's lock guards all arguments.
#pragma once

#include "pool/crew.hpp"
#include "pool/diagnosis.hpp"
#include "sched/scheduler.hpp"

#include <shmpool/detail/engine.hpp>
#include <shmpool/stats.hpp>

#include <memory>

namespace shmpool::pool {

/// Stores the error in an outcome. Throws std::bad_alloc.
void note_failure(detail::outcome& of, const sched::action& how, const crew& workers, const diagnosis& problems,
                  const sched::scheduler& scheduler);

/// Counts the failure.
void count_failure(failure_counts& counts, const sched::action& how, const crew& workers) noexcept;

/// Why the pool is broken. Throws std::bad_alloc.
std::shared_ptr<const detail::breakage> why_broken(const diagnosis& problems, const sched::scheduler& scheduler);

}  // namespace shmpool::pool
