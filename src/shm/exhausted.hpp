// What errc::shm_exhausted says: which bound was reached, by how much, and what to do.
//
// Thread safety: free functions without state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <system_error>

namespace shmpool::shm {

/// True for errors that freeing memory or descriptors may cure.
bool is_shortage(const std::error_code& error) noexcept;

/// The pool's own budget is used up; `held` bytes of it are in use.
[[noreturn]] void throw_budget_exhausted(std::size_t asked, std::uint64_t held, std::size_t budget);
/// More than the machine has memory and swap.
[[noreturn]] void throw_machine_exhausted(std::size_t asked, std::uint64_t memory);
/// The file system (`named`) or the machine's memory cannot give it; `error` is what the kernel said.
[[noreturn]] void throw_memory_exhausted(std::size_t asked, bool named, const std::error_code& error);

}  // namespace shmpool::shm
