// How segments get their pages: size classes, and making space exist before anyone touches it.
//
// Thread safety: free functions without state.
#pragma once

#include <cstddef>
#include <system_error>

namespace shmpool::shm {

class mapping;

/// The unit of space, and the size of a huge page.
inline constexpr std::size_t page_bytes = 4096;
inline constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;

/// Makes the pages of [from, to) of a fresh or grown segment exist: whole 2 MiB stretches as huge pages where the
/// kernel can (one page of each by fallocate, then MADV_COLLAPSE), the rest by fallocate; then maps them into `where`'s
/// page tables. ENOSPC and ENOMEM are returned, never raised as SIGBUS. `where` maps the whole file, writable.
std::error_code reserve(int fd, const mapping& where, std::size_t from, std::size_t to) noexcept;
/// Fills the page tables of [from, to), whose pages exist, so that touching them is no fault. Best effort.
void populate(const mapping& where, std::size_t from, std::size_t to) noexcept;

/// The capacity that a segment for `bytes` bytes gets: sizes come in classes, 8 to a doubling and so at most 12.5 %
/// apart, so that segments can be used again. Whole pages; whole huge pages from 16 MiB. Sizes that no file can have
/// give a smaller capacity.
std::size_t size_class(std::size_t bytes) noexcept;
/// The longest block of an arena, in bytes: longer segments have a file of their own.
inline constexpr std::size_t largest_block = 64 * 1024;
/// Every block begins at a multiple of this: blocks share no cache line.
inline constexpr std::size_t block_alignment = 64;
/// The length of the block that a segment of `bytes` bytes gets: 8 lengths to a doubling, multiples of `alignment` (a
/// power of two, at most a page).
std::size_t block_length(std::size_t bytes, std::size_t alignment = block_alignment) noexcept;
/// How much of a segment of `capacity` is to be reserved for `bytes` bytes: whole pages, and the whole last huge page
/// if half of it or more is needed and the capacity has it. A worker may reserve as much of a lease.
std::size_t reserved_length(std::size_t bytes, std::size_t capacity) noexcept;

}  // namespace shmpool::shm
