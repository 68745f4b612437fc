// Standard input, output and error of this process: that nothing else takes their numbers, and that what was printed
// leaves it.
#pragma once

namespace shmpool {

/// Writes what stdout, stderr, std::cout and std::clog (and their wide sisters) have in their buffers; where that is
/// nothing, it looks at a few pointers and that is all. Output that nobody takes is dropped: a pipe whose reader has
/// gone ends neither the process nor anything else. Blocks where a print would.
///
/// Thread safety: any thread, while others print. A C++ stream with a buffer of its own (after
/// std::ios::sync_with_stdio(false), or with another rdbuf()) has no lock that could be taken; it is written only where
/// there is no other thread.
void flush_standard_streams() noexcept;

/// Opens the standard streams that are closed, on /dev/null. Else descriptors of this library take their numbers, and
/// what somebody prints goes into a socket. Any thread.
void occupy_standard_streams() noexcept;

/// The input of the application is not for workers: puts /dev/null in its place, or an empty file where there is none.
/// The fork server does it for all of them; false if it could not.
bool read_dev_null() noexcept;

}  // namespace shmpool
