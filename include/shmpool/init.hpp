// init: the optional first line of main.
//
// Thread safety: init is for the first line of main; is_worker_image may be called by any thread.
#pragma once

namespace shmpool {

/// Makes the fork server (the small process that workers are forked from) this program, executed again: it has clean
/// memory and a fresh address layout, and pools may be made at any time, with any number of threads running.
///
/// Call it as the first statement of main. In the application it notes how the program was started and returns at once.
/// In the process that was started as the fork server it never returns.
///
/// Workers are copies of that process: constructors of static objects have run once more there, and their destructors
/// run in each worker that leaves in order (retired, idle, or at the pool's shutdown).
///
/// Without init(), the server is forked when the first pool is constructed, which must happen while the process has one
/// thread.
///
/// Constructors of static objects run again in the server, and so do statements of main before init. Where that matters
/// (a log file that is truncated when it is opened, say), ask is_worker_image().
void init(int argc, char** argv);

/// True in a process that was started to be a fork server, and in workers: also in a constructor of a static object.
/// False in the application, and where a server was forked because the program does not call init.
bool is_worker_image() noexcept;

}  // namespace shmpool
