// A segment_source without shared memory: its segments are heap memory that says it is a pool's, so that messages can
// make their whole way in one process.
//
// Thread safety: none.
#pragma once

#include <shmpool/detail/segment_source.hpp>
#include <shmpool/shm_handle.hpp>

#include <cstddef>
#include <cstring>
#include <new>

namespace shmpool::testing {

class memory_segment final : public detail::segment {
 public:
  static shm_handle make(std::size_t bytes, std::size_t alignment) {
    return shm_handle(new memory_segment(bytes, std::align_val_t{alignment < 64 ? 64 : alignment}));
  }

 private:
  memory_segment(std::size_t bytes, std::align_val_t alignment) : segment(kind::pool, 1), alignment_(alignment) {
    data_ = static_cast<std::byte*>(::operator new(bytes, alignment));
    size_ = bytes;
  }
  void last_release() noexcept override {
    if (!give_up()) return;
    ::operator delete(data_, alignment_);
    delete this;
  }
  std::align_val_t alignment_;
};

class memory_source final : public detail::segment_source {
 public:
  shm_handle allocate(std::size_t bytes, std::size_t alignment) override {
    ++allocations;
    return memory_segment::make(bytes, alignment);
  }
  bool can_lend(const shm_handle& handle) const noexcept override { return handle.is_shared(); }

  int allocations = 0;
};

}  // namespace shmpool::testing
