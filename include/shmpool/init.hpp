// init: the optional first line of main.
#pragma once

namespace shmpool {

/// Makes the fork server (the small process that workers are forked from) this program, executed again: clean memory, a
/// fresh address layout, and pools may be made at any time, with any number of threads running.
///
/// Call it as the first statement of main. In the application it notes how the program was started and returns at once. In
/// the process that was started as the fork server it never returns.
///
/// Without it, the server is forked when the first pool is constructed, which must happen while the process has one thread.
void init(int argc, char** argv);

}  // namespace shmpool
