// The two cereal archives: values that are not trivially copyable are written to a packer and read from an unpacker
// through these. serialize.hpp is the header to include; it adds the standard containers.
//
// Reading trusts nothing. Counts are bounded by the bytes that are there, nesting by a fixed depth, and a shared_ptr
// that refers back to an earlier one must refer to one of its own type.
//
// Thread safety: none; an archive lives for one value.
#pragma once

#include <shmpool/detail/codec/array_codec.hpp>
#include <shmpool/detail/codec/message.hpp>

#include <cereal/cereal.hpp>
#include <cereal/types/memory.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <typeindex>
#include <typeinfo>
#include <unordered_map>

namespace shmpool {

namespace detail {

/// Deepest nesting of objects in one value. Each level costs stack on both sides, and a hostile message could otherwise
/// ask for any amount of it. A level here is a cereal one (a node of a list of unique_ptrs takes five) and needs less
/// than 500 bytes of stack, user code aside.
inline constexpr int max_nesting = 5000;
[[noreturn]] void throw_nested_too_deeply();

}  // namespace detail

/// Writes values into a message. User code meets it as the Archive of its serialize() and save() functions.
class output_archive : public cereal::OutputArchive<output_archive, cereal::AllowEmptyClassElision> {
 public:
  output_archive(detail::packer& to, detail::direction way)
      : OutputArchive(this), to_(to), start_(to.bytes().size()), way_(way) {}

  /// Bytes whose number the reader knows; large ones travel in a shared segment.
  void save_block(const void* bytes, std::size_t size) { detail::put_block(to_, bytes, size); }
  void save_bytes(const void* bytes, std::size_t size) { to_.put_bytes(bytes, size); }
  /// The number of elements that follow one by one.
  void save_count(std::uint64_t count) {
    counted_ += count;
    to_.put(count);
  }
  template <class E, std::size_t Rank>
  void save_array(const array<E, Rank>& value) {
    detail::put_array(to_, value, detail::purpose_of(way_, std::is_const_v<E>), shared_ > 0);
  }
  /// To be called once, after the last value.
  void finish();

  void enter() {
    if (++depth_ > detail::max_nesting) detail::throw_nested_too_deeply();
  }
  void leave() noexcept { --depth_; }
  // The object of a shared_ptr may have other owners, so arrays in it are not given away.
  void enter_shared() noexcept { ++shared_; }
  void leave_shared() noexcept { --shared_; }

 private:
  detail::packer& to_;
  std::size_t start_;
  std::uint64_t counted_ = 0;
  int depth_ = 0;
  int shared_ = 0;
  detail::direction way_;
};

/// Reads values from a message. User code meets it as the Archive of its serialize() and load() functions.
class input_archive : public cereal::InputArchive<input_archive, cereal::AllowEmptyClassElision> {
 public:
  explicit input_archive(detail::unpacker& from) : InputArchive(this), from_(from), start_(from.remaining()) {}

  void load_block(void* to, std::size_t size) { detail::copy_bytes(to, detail::take_block(from_, size), size); }
  /// The same without the copy, valid until the message is gone.
  const std::byte* load_block_in_place(std::size_t size) { return detail::take_block(from_, size); }
  void load_bytes(void* to, std::size_t size) { from_.get_bytes(to, size); }
  /// Throws protocol_violation for a count that the message cannot hold.
  std::uint64_t load_count();
  template <class E, std::size_t Rank>
  void load_array(array<E, Rank>& value) {
    value = detail::get_array<E, Rank>(from_);
  }
  void finish();

  void enter() {
    if (++depth_ > detail::max_nesting) detail::throw_protocol_violation("value that is nested too deeply");
  }
  void leave() noexcept { --depth_; }
  /// cereal keeps the shared_ptrs that it has read as shared_ptr<void>, and casts them back to the type that the reader
  /// wants. This function looks at the next reference and makes sure that the cast is right.
  void expect_shared(const std::type_info& type);

 private:
  detail::unpacker& from_;
  std::size_t start_;
  std::uint64_t counted_ = 0;
  int depth_ = 0;
  std::unordered_map<std::uint32_t, std::type_index> shared_types_;
};

// ---- Functions that cereal calls before and after each object.

template <class T>
void prologue(output_archive& archive, const T&) {
  if constexpr (!std::is_arithmetic_v<T>) archive.enter();
}
template <class T>
void epilogue(output_archive& archive, const T&) {
  if constexpr (!std::is_arithmetic_v<T>) archive.leave();
}
template <class T>
void prologue(output_archive& archive, const std::shared_ptr<T>&) {
  archive.enter();
  archive.enter_shared();
}
template <class T>
void epilogue(output_archive& archive, const std::shared_ptr<T>&) {
  archive.leave_shared();
  archive.leave();
}
template <class T>
void prologue(output_archive& archive, const std::weak_ptr<T>&) {
  archive.enter();
  archive.enter_shared();
}
template <class T>
void epilogue(output_archive& archive, const std::weak_ptr<T>&) {
  archive.leave_shared();
  archive.leave();
}

template <class T>
void prologue(input_archive& archive, const T&) {
  if constexpr (!std::is_arithmetic_v<T>) archive.enter();
}
template <class T>
void epilogue(input_archive& archive, const T&) {
  if constexpr (!std::is_arithmetic_v<T>) archive.leave();
}
template <class T>
void prologue(input_archive& archive, const cereal::memory_detail::PtrWrapper<std::shared_ptr<T>&>&) {
  archive.enter();
  archive.expect_shared(typeid(std::remove_cv_t<T>));
}

// ---- Types that every cereal archive has to know.

template <class T>
  requires std::is_arithmetic_v<T>
void save(output_archive& archive, const T& value) {
  archive.save_bytes(&value, sizeof value);
}
template <class T>
  requires std::is_arithmetic_v<T>
void load(input_archive& archive, T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    unsigned char byte = 0;
    archive.load_bytes(&byte, 1);
    if (byte > 1) detail::throw_protocol_violation("truth value that is neither 0 nor 1");
    value = byte != 0;
  } else {
    archive.load_bytes(&value, sizeof value);
  }
}

template <class T>
void save(output_archive& archive, const cereal::NameValuePair<T>& pair) {
  archive(pair.value);
}
template <class T>
void load(input_archive& archive, cereal::NameValuePair<T>& pair) {
  archive(pair.value);
}

template <class T>
void save(output_archive& archive, const cereal::SizeTag<T>& tag) {
  archive.save_count(static_cast<std::uint64_t>(tag.size));
}
template <class T>
void load(input_archive& archive, cereal::SizeTag<T>& tag) {
  tag.size = static_cast<std::remove_reference_t<decltype(tag.size)>>(archive.load_count());
}

template <class T>
void save(output_archive& archive, const cereal::BinaryData<T>& block) {
  archive.save_block(block.data, static_cast<std::size_t>(block.size));
}
template <class T>
void load(input_archive& archive, cereal::BinaryData<T>& block) {
  archive.load_block(block.data, static_cast<std::size_t>(block.size));
}

}  // namespace shmpool

CEREAL_REGISTER_ARCHIVE(shmpool::output_archive)
CEREAL_REGISTER_ARCHIVE(shmpool::input_archive)
CEREAL_SETUP_ARCHIVE_TRAITS(shmpool::input_archive, shmpool::output_archive)
