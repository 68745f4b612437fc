// How a worker that may leave ends: as a program does, by exit(), and within a time.
//
// Thread safety: any thread.
#pragma once

#include <chrono>

namespace shmpool::worker {

/// How long a worker may take to leave; that of the scheduler, which kills it then, too.
inline constexpr std::chrono::seconds leave_grace{2};

/// From here the process has this long to live: the kernel kills it then, whatever it does, also where it is stopped.
/// The parent may not be looking, as a pool without work is not watched. Where timers are refused, only the parent sees
/// to it.
void limit_leaving(std::chrono::seconds most) noexcept;

}  // namespace shmpool::worker
