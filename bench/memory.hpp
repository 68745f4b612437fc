// Memory straight from the kernel, for the floors: no allocator decides when pages are new and when they are old.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <span>
#include <system_error>

namespace bench {

/// `count` doubles in private memory of their own; all pages are new until they are written to.
///
/// Thread safety: none.
class memory {
 public:
  explicit memory(std::size_t count) : count_(count) {
    void* const pages = ::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
    data_ = static_cast<double*>(pages);
  }
  memory(const memory&) = delete;
  memory& operator=(const memory&) = delete;
  ~memory() { ::munmap(data_, bytes()); }

  /// Huge pages where the kernel has some; before the first write. The pool's own memory has them, so a floor without
  /// them could be higher than what stands on it.
  memory& in_huge_pages() {
    ::madvise(data_, bytes(), MADV_HUGEPAGE);
    return *this;
  }

  std::span<double> span() const { return {data_, count_}; }

 private:
  std::size_t bytes() const { return count_ * sizeof(double); }

  double* data_ = nullptr;
  std::size_t count_;
};

}  // namespace bench
