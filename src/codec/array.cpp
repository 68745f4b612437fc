// The memory of arrays that are made without asking a pool, and the exceptions that array throws.
#include <shmpool/array.hpp>

#include <atomic>
#include <stdexcept>
#include <string>

namespace shmpool::detail {

namespace {

// The limit is written before the source is published, so a thread that sees the source sees its limit.
std::atomic<segment_source*> local_source{nullptr};
std::atomic<std::size_t> local_limit{0};

}  // namespace

shm_handle allocate_local(std::size_t bytes, std::size_t alignment) {
  if (auto* source = local_source.load(std::memory_order_acquire)) {
    if (bytes > local_limit.load(std::memory_order_relaxed)) return source->allocate(bytes, alignment);
  }
  return shm_handle(make_heap_segment(bytes, alignment));
}

void set_local_allocator(segment_source* source, std::size_t inline_limit) noexcept {
  local_limit.store(inline_limit, std::memory_order_relaxed);
  local_source.store(source, std::memory_order_release);
}

void throw_extents_too_large() {
  throw std::length_error("shmpool: the extents of the array multiply to more bytes than a process can address");
}

void throw_negative_extent(long long extent) {
  throw std::length_error("shmpool: array extent " + std::to_string(extent) + " is negative");
}

namespace {

template <class Index>
[[noreturn]] void throw_index(Index index, std::size_t dimension, std::size_t extent) {
  throw std::out_of_range("shmpool: index " + std::to_string(index) + " in dimension " + std::to_string(dimension) +
                          " of an array whose extent there is " + std::to_string(extent));
}

}  // namespace

void throw_index_out_of_range(long long index, std::size_t dimension, std::size_t extent) {
  throw_index(index, dimension, extent);
}

void throw_index_out_of_range(unsigned long long index, std::size_t dimension, std::size_t extent) {
  throw_index(index, dimension, extent);
}

void throw_rows_out_of_range(std::size_t first, std::size_t last, std::size_t extent) {
  throw std::out_of_range("shmpool: rows " + std::to_string(first) + " to " + std::to_string(last) +
                          " of an array that has " + std::to_string(extent));
}

void throw_wrong_reshape(std::size_t from, std::size_t to) {
  throw std::invalid_argument("shmpool: an array of " + std::to_string(from) + " elements cannot take a shape of " +
                              std::to_string(to));
}

void throw_outside_segment() {
  throw std::out_of_range(
      "shmpool: the array would reach beyond its segment, or its first element would not be aligned");
}

}  // namespace shmpool::detail
