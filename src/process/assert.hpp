// SHMPOOL_ASSERT: an invariant that holds whatever a user, a worker or the kernel does. Checked in debug builds, with
// sanitizers, by the fuzzers and in the chaos runs (SHMPOOL_ASSERTIONS is defined there); otherwise the condition is
// not evaluated.
//
// Thread safety: any thread.
#pragma once

#if defined(SHMPOOL_ASSERTIONS)

#include <cstdio>
#include <cstdlib>

#define SHMPOOL_ASSERT(condition) \
  ((condition)                    \
       ? static_cast<void>(0)     \
       : (std::fprintf(stderr, "shmpool: %s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition), std::abort()))

#else

#define SHMPOOL_ASSERT(condition) static_cast<void>(sizeof(static_cast<bool>(condition)))

#endif
