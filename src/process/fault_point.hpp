// Named places at which the chaos runs kill a process: steps in shared memory, without a system call, that a kill from
// outside would hardly ever hit. They do nothing unless the library is compiled with SHMPOOL_FAULT_POINTS; then
// tests/fault/chaos/fault_point.cpp decides what happens.
//
// Thread safety: any thread.
#pragma once

#if defined(SHMPOOL_FAULT_POINTS)

namespace shmpool {

/// Ends or stops the calling process if the environment says so, otherwise returns.
void fault_point(const char* name) noexcept;

}  // namespace shmpool

#define SHMPOOL_FAULT_POINT(name) ::shmpool::fault_point(name)

#else

#define SHMPOOL_FAULT_POINT(name) static_cast<void>(0)

#endif
