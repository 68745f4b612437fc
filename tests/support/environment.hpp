// Numbers for tests from the environment: SHMPOOL_SEED and the like.
//
// Thread safety: any thread, while nobody changes the environment.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace shmpool::testing {

/// The number in the environment variable, or `otherwise` if it is not set.
inline std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

}  // namespace shmpool::testing
