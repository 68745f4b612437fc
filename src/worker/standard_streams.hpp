// What a task has printed leaves the process with the task, so that a later crash takes nothing of it.
#pragma once

namespace shmpool::worker {

/// Writes what stdout, stderr, std::cout and std::clog (and their wide sisters) have in their buffers; where that is
/// nothing, it looks at a few pointers and that is all. Output that nobody takes is dropped: a pipe whose reader has
/// gone ends neither the process nor anything else. Blocks where a print would.
///
/// Thread safety: any thread, while others print. A C++ stream with a buffer of its own (after
/// std::ios::sync_with_stdio(false), or with another rdbuf()) has no lock that could be taken; it is written only where
/// there is no other thread.
void flush_standard_streams() noexcept;

}  // namespace shmpool::worker
