// How a worker that may leave ends: by exit(), like a program, and within a time limit.
//
// Thread safety: any thread.
#pragma once

#include <chrono>

namespace shmpool::worker {

/// How long a worker may take to leave; the scheduler kills it after the same time.
inline constexpr std::chrono::seconds leave_grace{2};

/// Makes the kernel kill this process after the time `most`, whatever it does, even if it is stopped. The parent may
/// not notice, as nothing watches a pool without work. If the kernel refuses the timer, only the parent enforces the
/// limit.
void limit_leaving(std::chrono::seconds most) noexcept;

}  // namespace shmpool::worker
