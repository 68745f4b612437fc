// operator new that fails when a test says so. It is replaced in the whole program: for a test program of its own,
// whose one source includes this.
//
// Thread safety: each thread has its own count.
#pragma once

#include <cstdlib>
#include <limits>
#include <new>

namespace shmpool::testing {

inline constexpr int unlimited = std::numeric_limits<int>::max();
/// After so many allocations of this thread one fails.
inline thread_local int allocations_left = unlimited;
/// Whether there is memory again after that.
inline thread_local bool memory_recovers = true;
inline thread_local bool allocation_failed = false;

}  // namespace shmpool::testing

// Not inlined, because the compiler would then see free() for what it believes operator new returned, and warn.
[[gnu::noinline]] void* operator new(std::size_t size) {
  using namespace shmpool::testing;
  if (allocations_left != unlimited && allocations_left-- <= 0) {
    allocations_left = memory_recovers ? unlimited : 0;
    allocation_failed = true;
    throw std::bad_alloc();
  }
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
