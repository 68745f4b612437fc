// Space by fallocate, so that a full file system is an error and not SIGBUS; huge pages by MADV_COLLAPSE, because a
// fresh 4 KiB page of shared memory is the most expensive thing that this library touches.
#include "shm/reserve.hpp"

#include "shm/mapping.hpp"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <limits>

namespace shmpool::shm {
namespace {

// Linux 5.14 and 6.1; headers of older C libraries do not have them.
constexpr int populate_write = 23;  // MADV_POPULATE_WRITE
constexpr int collapse = 25;        // MADV_COLLAPSE

constexpr std::size_t round_down(std::size_t value, std::size_t unit) noexcept {
  return value / unit * unit;
}
constexpr std::size_t round_up(std::size_t value, std::size_t unit) noexcept {
  return round_down(value + unit - 1, unit);
}

/// The largest length that a file can have, in whole pages.
constexpr std::size_t largest = round_down(std::numeric_limits<std::ptrdiff_t>::max(), page_bytes);

/// fallocate() of [from, to). tmpfs gives everything back when a signal interrupts the call, so a process with an
/// interval timer could repeat one long call for ever: each interruption makes the steps smaller.
std::error_code allocate_pages(int fd, std::size_t from, std::size_t to) noexcept {
  std::size_t step = to - from;
  while (from < to) {
    const std::size_t length = std::min(step, to - from);
    if (::fallocate(fd, 0, static_cast<off_t>(from), static_cast<off_t>(length)) == 0) {
      from += length;
    } else if (errno == EINTR) {
      step = std::max(round_down(length / 2, page_bytes), page_bytes);
    } else {
      return {errno, std::system_category()};
    }
  }
  return {};
}

/// Makes [from, to), both on huge page boundaries, exist as huge pages; false if any of it may be missing. The kernel
/// refuses a stretch without a single page, hence the one page first.
bool allocate_huge(int fd, const mapping& where, std::size_t from, std::size_t to) noexcept {
  for (std::size_t at = from; at < to; at += huge_page_bytes) {
    if (allocate_pages(fd, at, at + page_bytes)) return false;
  }
  return ::madvise(where.data() + from, to - from, collapse) == 0;
}

}  // namespace

void populate(const mapping& where, std::size_t from, std::size_t to) noexcept {
  from = round_down(from, page_bytes);
  to = std::min(to, where.size());
  // An old kernel says EINVAL. Any other failure leaves ordinary page faults, and the pages exist.
  if (from < to) ::madvise(where.data() + from, to - from, populate_write);
}

std::error_code reserve(int fd, const mapping& where, std::size_t from, std::size_t to) noexcept {
  from = round_down(from, page_bytes);
  to = round_up(to, page_bytes);
  if (from >= to) return {};
  const std::size_t first = round_up(from, huge_page_bytes);
  const std::size_t last = round_down(std::min(to, where.size()), huge_page_bytes);
  const bool aligned = reinterpret_cast<std::uintptr_t>(where.data()) % huge_page_bytes == 0;
  std::error_code error;
  if (aligned && first < last && allocate_huge(fd, where, first, last)) {
    error = allocate_pages(fd, from, first);
    if (!error) error = allocate_pages(fd, last, to);
  } else {
    error = allocate_pages(fd, from, to);
  }
  if (!error) populate(where, from, to);
  return error;
}

std::size_t size_class(std::size_t bytes) noexcept {
  if (bytes > largest / 2) return largest;
  const std::size_t size = std::max(bytes, page_bytes);
  return round_up(size, std::max(std::bit_floor(size) / 8, page_bytes));
}

std::size_t block_length(std::size_t bytes, std::size_t alignment) noexcept {
  const std::size_t size = std::max<std::size_t>(bytes, 1);
  return round_up(size, std::max({std::bit_floor(size) / 8, alignment, block_alignment}));
}

std::size_t reserved_length(std::size_t bytes, std::size_t capacity) noexcept {
  const std::size_t pages = std::min(round_up(std::clamp(bytes, page_bytes, largest), page_bytes), capacity);
  const std::size_t huge = round_up(pages, huge_page_bytes);
  return huge <= capacity && huge - pages <= huge_page_bytes / 2 ? huge : pages;
}

}  // namespace shmpool::shm
