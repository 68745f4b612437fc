// Checks the options of a pool or of a task, and derives the settings of the pool's parts, with their defaults.
//
// Thread safety: free functions without state.
#pragma once

#include "sched/scheduler.hpp"
#include "shm/store.hpp"
#include "wire/server_protocol.hpp"

#include <shmpool/options.hpp>

#include <chrono>
#include <optional>

namespace shmpool::pool {

/// Both throw std::invalid_argument that names a wrong option.
void check(const pool_options& options);
void check(const task_options& options);

shm::store_options store_options_of(const pool_options& options);
sched::options scheduler_options_of(const pool_options& options);
wire::worker_settings worker_settings_of(const pool_options& options);
/// RLIMIT_CPU of workers, if they have one.
std::optional<std::chrono::seconds> cpu_limit_of(const pool_options& options) noexcept;

/// Converts to nanoseconds; a span that may not fit is cut to 100 years.
std::chrono::nanoseconds in_nanoseconds(std::chrono::milliseconds span) noexcept;

}  // namespace shmpool::pool
