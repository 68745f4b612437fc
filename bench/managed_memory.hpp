// Blocks from boost::interprocess::managed_shared_memory, the allocator in shared memory that C++ programs find first.
#pragma once

#include "absent.hpp"

#if !defined(BENCH_HAS_BOOST)
namespace bench {
using managed_memory = absent;
}  // namespace bench
#else

#include <boost/interprocess/managed_shared_memory.hpp>

#include <unistd.h>

#include <cstddef>
#include <string>

namespace bench {

/// Shared memory for `count` blocks of `size` bytes, which are freed with it.
///
/// Thread safety: none.
class managed_memory {
 public:
  // The name is removed at once: nothing is left behind.
  managed_memory(std::size_t count, std::size_t size)
      : name_("shmpool_bench." + std::to_string(::getpid()) + ".memory"),
        memory_(boost::interprocess::create_only, name_.c_str(), count * (size + overhead) + spare) {
    boost::interprocess::shared_memory_object::remove(name_.c_str());
  }

  /// Not initialised.
  void* allocate(std::size_t size) { return memory_.allocate(size); }
  void deallocate(void* block) { memory_.deallocate(block); }

 private:
  static constexpr std::size_t overhead = 64, spare = 1 << 20;
  const std::string name_;
  boost::interprocess::managed_shared_memory memory_;
};

}  // namespace bench
#endif
