// Why a task has no result, as the scheduler says it and as the user is told.
//
// Thread safety: none; the engine's lock guards what is involved.
#pragma once

#include "pool/crew.hpp"
#include "pool/diagnosis.hpp"
#include "sched/scheduler.hpp"

#include <shmpool/detail/engine.hpp>
#include <shmpool/stats.hpp>

#include <memory>

namespace shmpool::pool {

/// Says it in an outcome. Throws std::bad_alloc.
void note_failure(detail::outcome& of, const sched::action& how, const crew& workers, const diagnosis& problems,
                  const sched::scheduler& scheduler);

/// Counts it.
void count_failure(failure_counts& counts, const sched::action& how, const crew& workers) noexcept;

/// What there is to say of a pool that is broken. Throws std::bad_alloc.
std::shared_ptr<const detail::breakage> why_broken(const diagnosis& problems, const sched::scheduler& scheduler);

}  // namespace shmpool::pool
