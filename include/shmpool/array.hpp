// array<T, Rank>: a typed, shaped view that shares ownership of a segment. It is to shared memory what std::span and
// std::shared_ptr together are to the heap. make_array() makes one without a pool, pool.make_array() in shared memory.
//
// Thread safety: distinct arrays may be used from distinct threads, also when they share a segment; one array object
// may not be changed by one thread while another uses it. Elements are plain memory.
#pragma once

#include <shmpool/detail/attachment.hpp>
#include <shmpool/detail/codec/addresses.hpp>
#include <shmpool/detail/codec/extents.hpp>
#include <shmpool/detail/segment_source.hpp>
#include <shmpool/shm_handle.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

namespace shmpool {

template <class T, std::size_t Rank>
class array;

namespace detail {

/// Marks the constructor of slices, whose place in the segment needs no check.
struct unchecked {};

/// Memory for an array that is made without a pool: private to this process or, in a worker and above the limit that
/// was set, from the worker's source of shared memory. `bytes` must not be 0.
shm_handle allocate_local(std::size_t bytes, std::size_t alignment);

/// From now on allocate_local() takes memory of more than `inline_limit` bytes from `source`, which must outlive its
/// use and be callable from every thread that makes arrays; null goes back to private memory.
void set_local_allocator(segment_source* source, std::size_t inline_limit) noexcept;

}  // namespace detail

/// Elements in C order (the last index is the fastest), in memory that is shared with every copy of the array and freed
/// with the last one. Copying is cheap and shallow; constness is shallow too, as for std::span: a const array<T> still
/// gives access to mutable elements, array<const T> never does. A default-constructed array is empty and owns nothing.
///
/// An array is a contiguous range over all of its elements, whatever its rank, and converts to std::span as such.
///
/// @tparam T     any trivially copyable type, const for a view that only reads
/// @tparam Rank  number of dimensions, at least 1
template <class T, std::size_t Rank = 1>
class array {
  static_assert(Rank >= 1, "shmpool: an array has at least one dimension");
  static_assert(std::is_object_v<T> && std::is_trivially_copyable_v<std::remove_cv_t<T>>,
                "shmpool: array elements must be trivially copyable, because processes share them as bytes");
  static_assert(!detail::holds_address<std::remove_cv_t<T>>,
                "shmpool: array elements must not hold pointers, views, error codes (which point to their category) or "
                "other addresses, because processes share them as bytes");
  static_assert(!std::is_volatile_v<T>, "shmpool: array elements cannot be volatile");
  static_assert(alignof(T) <= 4096, "shmpool: array elements cannot be aligned to more than a page");

 public:
  using element_type = T;
  using value_type = std::remove_const_t<T>;
  using size_type = std::size_t;
  using difference_type = std::ptrdiff_t;
  using pointer = T*;
  using reference = T&;
  using iterator = T*;
  using extents_type = std::array<std::size_t, Rank>;

  /// The null array: every extent is zero, no memory.
  array() noexcept = default;
  array(const array&) = default;
  array(array&& other) noexcept
      : handle_(std::move(other.handle_)),
        data_(std::exchange(other.data_, nullptr)),
        extents_(std::exchange(other.extents_, extents_type{})) {}
  array& operator=(array other) noexcept {
    swap(other);
    return *this;
  }
  ~array() = default;

  /// A view on memory that `handle` owns, from `byte_offset` on. Throws std::out_of_range if the segment is too small
  /// or the first element would not be aligned, std::length_error if the extents overflow.
  array(shm_handle handle, std::size_t byte_offset, const extents_type& extents) : extents_(extents) {
    const std::size_t bytes = detail::checked_bytes(extents, sizeof(T));
    if (bytes != 0) {
      if (byte_offset > handle.size() || bytes > handle.size() - byte_offset ||
          reinterpret_cast<std::uintptr_t>(handle.data() + byte_offset) % alignof(T) != 0) {
        detail::throw_outside_segment();
      }
      data_ = reinterpret_cast<T*>(handle.data() + byte_offset);
    }
    handle_ = std::move(handle);
  }

  /// array<T> converts to array<const T>.
  array(const array<value_type, Rank>& other) noexcept
    requires std::is_const_v<T>
      : handle_(other.handle()), data_(other.data()), extents_(other.extents()) {}
  array(array<value_type, Rank>&& other) noexcept
    requires std::is_const_v<T>
      : handle_(std::move(other.handle_)),
        data_(std::exchange(other.data_, nullptr)),
        extents_(std::exchange(other.extents_, extents_type{})) {}

  void swap(array& other) noexcept {
    handle_.swap(other.handle_);
    std::swap(data_, other.data_);
    std::swap(extents_, other.extents_);
  }

  static constexpr std::size_t rank() noexcept { return Rank; }
  const extents_type& extents() const noexcept { return extents_; }
  /// Length of one dimension; dimension 0 counts the rows.
  std::size_t extent(std::size_t dimension) const noexcept { return extents_[dimension]; }
  /// Number of elements.
  std::size_t size() const noexcept {
    std::size_t product = 1;
    for (std::size_t extent : extents_) product *= extent;
    return product;
  }
  std::size_t size_bytes() const noexcept { return size() * sizeof(T); }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }

  T* data() const noexcept { return data_; }
  T* begin() const noexcept { return data_; }
  T* end() const noexcept { return data_ + size(); }
  /// All elements as one flat span; it does not keep the memory alive.
  std::span<T> span() const noexcept { return {data_, size()}; }

  /// The element at one index per dimension; unchecked.
  template <class... Index>
    requires(sizeof...(Index) == Rank && (detail::extent_like<Index> && ...))
  T& operator()(Index... index) const noexcept {
    std::size_t position = 0, dimension = 0;
    ((position = position * extents_[dimension++] + static_cast<std::size_t>(index)), ...);
    return data_[position];
  }

  /// The same, checked: throws std::out_of_range that names the index and the extent.
  template <class... Index>
    requires(sizeof...(Index) == Rank && (detail::extent_like<Index> && ...))
  T& at(Index... index) const {
    std::size_t position = 0, dimension = 0;
    ((position = position * extents_[dimension] + detail::checked_index(index, dimension, extents_[dimension]),
      ++dimension),
     ...);
    return data_[position];
  }

  /// Rank 1: the element. Higher ranks: the row, as an array of one dimension less that shares the segment. Unchecked.
  decltype(auto) operator[](std::size_t index) const noexcept {
    if constexpr (Rank == 1) {
      return (data_[index]);
    } else {
      std::array<std::size_t, Rank - 1> inner;
      std::size_t stride = 1;
      for (std::size_t i = 0; i + 1 < Rank; ++i) stride *= inner[i] = extents_[i + 1];
      return array<T, Rank - 1>(detail::unchecked{}, handle_, data_ + index * stride, inner);
    }
  }

  /// Rows [first, last), sharing the segment. Disjoint slices may be lent to tasks at the same time. Throws
  /// std::out_of_range unless first <= last <= extent(0).
  array rows(std::size_t first, std::size_t last) const {
    if (first > last || last > extents_[0]) detail::throw_rows_out_of_range(first, last, extents_[0]);
    extents_type slice = extents_;
    slice[0] = last - first;
    const std::size_t stride = extents_[0] == 0 ? 0 : size() / extents_[0];
    return array(detail::unchecked{}, handle_, data_ + first * stride, slice);
  }

  /// The same elements in another shape, sharing the segment; extents as for make_array(). Throws std::invalid_argument
  /// if the number of elements differs.
  template <class... Extents>
    requires(detail::array_arguments<Extents...>::valid && !detail::array_arguments<Extents...>::filled)
  auto reshape(const Extents&... extents) const {
    constexpr std::size_t new_rank = detail::array_arguments<Extents...>::rank;
    const auto shape = detail::read_extents<new_rank>(extents...);
    const std::size_t count = detail::checked_bytes(shape, sizeof(T)) / sizeof(T);
    if (count != size()) detail::throw_wrong_reshape(size(), count);
    return array<T, new_rank>(detail::unchecked{}, handle_, data_, shape);
  }

  /// A deep copy in memory of its own, mutable; make_array() says where that memory is.
  array<value_type, Rank> clone() const {
    if (empty()) return array<value_type, Rank>(shm_handle{}, 0, extents_);
    array<value_type, Rank> copy(detail::allocate_local(size_bytes(), alignof(T)), 0, extents_);
    std::memcpy(static_cast<void*>(copy.data()), data_, size_bytes());
    return copy;
  }

  /// The owner of the memory; null for arrays without elements that never had any.
  const shm_handle& handle() const noexcept { return handle_; }
  /// Where the first element is, in bytes from the start of the segment.
  std::size_t byte_offset() const noexcept {
    return data_ ? static_cast<std::size_t>(reinterpret_cast<const std::byte*>(data_) - handle_.data()) : 0;
  }

 private:
  template <class, std::size_t>
  friend class array;
  array(detail::unchecked, const shm_handle& handle, T* data, const extents_type& extents) noexcept
      : handle_(handle), data_(data), extents_(extents) {}

  shm_handle handle_;
  T* data_ = nullptr;
  extents_type extents_{};
};

namespace detail {

/// make_array() with memory from `allocate(bytes, alignment)`, which returns a shm_handle.
template <class T, class Allocate, class... Args>
auto make_array_with(Allocate&& allocate, const Args&... args) {
  using arguments = array_arguments<Args...>;
  static_assert(!std::is_const_v<T>, "shmpool: make_array<const T> would have nobody to fill it: make an array<T>");
  static_assert(arguments::valid,
                "shmpool: make_array takes extents (integers, or one std::array of them) and then at most one value to "
                "fill with; an integer to fill with is written shmpool::fill(value)");
  static_assert(!arguments::template ends_like_a_fill_value<T>,
                "shmpool: the last argument of make_array has the type of the elements, and could be an extent or a "
                "value to fill with: write shmpool::fill(value), or an extent of another type");
  const auto extents = read_extents<arguments::rank>(args...);
  const std::size_t bytes = checked_bytes(extents, sizeof(T));
  array<T, arguments::rank> result(bytes == 0 ? shm_handle{} : allocate(bytes, alignof(T)), 0, extents);
  if constexpr (arguments::filled) {
    const auto& last = std::get<sizeof...(Args) - 1>(std::tie(args...));
    if constexpr (is_fill_value<std::remove_cvref_t<decltype(last)>>) {
      std::uninitialized_fill(result.begin(), result.end(), static_cast<T>(last.value));
    } else {
      std::uninitialized_fill(result.begin(), result.end(), static_cast<T>(last));
    }
  }
  return result;
}

}  // namespace detail

/// Marks the value that make_array() fills with, where it could be taken for an extent: make_array<int>(10, fill(7)).
template <class T>
detail::fill_value<std::decay_t<T>> fill(T&& value) {
  return {std::forward<T>(value)};
}

/// A new array: make_array<double>(rows, columns), make_array<double>(n, 1.0), make_array<int>(n, shmpool::fill(7)),
/// make_array<float>(std::array{a, b, c}). Without a fill value, elements have the values that the memory holds: zero
/// where it is fresh from the system, old values where it is recycled.
///
/// The memory is private to this process; in a task it is shared memory for arrays that are too large to travel inside
/// a message, so that returning one copies nothing. Use pool.make_array() for arrays that are handed to tasks.
///
/// Throws std::length_error for extents that are negative or too large, std::bad_alloc, or
/// std::system_error(errc::shm_exhausted).
template <class T, class... Args>
auto make_array(const Args&... args) {
  return detail::make_array_with<T>(detail::allocate_local, args...);
}

/// A new mutable array of the same shape and element type; optionally filled with a value.
template <class T, std::size_t Rank, class... Fill>
  requires(sizeof...(Fill) <= 1)
array<std::remove_const_t<T>, Rank> make_array_like(const array<T, Rank>& shape, const Fill&... value) {
  return detail::make_array_with<std::remove_const_t<T>>(detail::allocate_local, shape.extents(), value...);
}

}  // namespace shmpool
