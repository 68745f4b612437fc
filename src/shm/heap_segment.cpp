// Private memory with the interface of a segment: small arrays, and arrays that are made where there is no pool.
//
// Thread safety: as detail::segment.
#include <shmpool/detail/segment.hpp>

#include <algorithm>
#include <memory>
#include <new>

namespace shmpool::detail {
namespace {

class heap_segment final : public segment {
 public:
  heap_segment(std::size_t bytes, std::size_t alignment)
      : segment(kind::heap, 0), alignment_{std::max(alignment, cache_line)} {
    data_ = static_cast<std::byte*>(::operator new(std::max(bytes, std::size_t{1}), alignment_));
    size_ = bytes;
  }
  ~heap_segment() { ::operator delete(data_, alignment_); }

 private:
  static constexpr std::size_t cache_line = 64;
  void last_release() noexcept override {
    if (give_up()) delete this;
  }

  std::align_val_t alignment_;
};

}  // namespace

segment* make_heap_segment(std::size_t bytes, std::size_t alignment) {
  return std::make_unique<heap_segment>(bytes, alignment).release();
}

}  // namespace shmpool::detail
