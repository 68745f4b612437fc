// Standard input, output and error of this process: keeps other descriptors off their numbers, and flushes output.
#pragma once

namespace shmpool {

/// Flushes stdout, stderr, std::cout and std::clog (and their wide sisters); if their buffers are empty, it only
/// compares a few pointers. Output to a pipe without a reader is dropped, and does not end the process. Blocks where a
/// print would.
///
/// Thread safety: any thread, while others print. A C++ stream with a buffer of its own (after
/// std::ios::sync_with_stdio(false), or with another rdbuf()) has no lock; it is flushed only if there is no other
/// thread.
void flush_standard_streams() noexcept;

/// Opens closed standard streams on /dev/null. Else descriptors of this library would take their numbers, and printed
/// text would go into a socket. Any thread.
void occupy_standard_streams() noexcept;

/// Workers must not read the application's input: replaces standard input by /dev/null, or by an empty file if there is
/// no /dev/null. The fork server does this for all workers; false if it failed.
bool read_dev_null() noexcept;

}  // namespace shmpool
