// The texts of errc::shm_exhausted: which bound was reached, by how much, and what to do.
//
// Thread safety: free functions without state.
#pragma once

#include "shm/call_error.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

namespace shmpool::shm {

/// True for errors that freeing memory, descriptors or mappings, or raising a limit, may cure.
bool is_shortage(const std::error_code& error) noexcept;

/// Text to append to the error of a failed `call`: "; " and the bound that was reached and what to do; empty for errors
/// without advice.
std::string advice(std::string_view call, const std::error_code& error);
/// The call, its error, the bound of this process or of the machine that was reached as far as it can be told, and what
/// to do about it.
std::string describe(const call_error& failed);

/// The pool's own budget is used up; `held` bytes of it are in use.
[[noreturn]] void throw_budget_exhausted(std::size_t asked, std::uint64_t held, std::size_t budget);
/// The request exceeds the memory and swap of the machine.
[[noreturn]] void throw_machine_exhausted(std::size_t asked, std::uint64_t memory);
/// The file system (`named`) or the machine's memory cannot provide the bytes, or a limit of this process forbids it.
[[noreturn]] void throw_memory_exhausted(std::size_t asked, bool named, const call_error& failed);

}  // namespace shmpool::shm
