// The layout of arrays and blocks in messages, with every check that reading them needs.
#include <shmpool/detail/codec/array_codec.hpp>

#include <optional>
#include <stdexcept>
#include <utility>

namespace shmpool::detail {

namespace {

// Values of the first byte of an array and of a block.
enum class placement : std::uint8_t { empty = 0, in_message = 1, in_segment = 2 };

struct array_header {
  std::uint8_t where;
  std::uint8_t rank;
  std::uint16_t reserved;
  std::uint32_t element_size;
};
static_assert(sizeof(array_header) == 8);

struct segment_reference {
  std::uint32_t index;
  std::uint32_t reserved;
  std::uint64_t offset;
};
static_assert(sizeof(segment_reference) == 16);

// The product of the extents and the element size; false if it overflows. As product_in_bytes, for a rank that is not
// known to the compiler.
bool total_bytes(std::span<const std::size_t> extents, std::size_t element_size, std::size_t& bytes) noexcept {
  constexpr std::size_t most = static_cast<std::size_t>(-1) / 2;
  bytes = 0;
  for (std::size_t extent : extents) {
    if (extent == 0) return true;
  }
  bytes = element_size;
  for (std::size_t extent : extents) {
    if (extent > most / bytes) return false;
    bytes *= extent;
  }
  return true;
}

segment_reference copy_to_new_segment(packer& to, const void* bytes, std::size_t size, std::size_t alignment) {
  shm_handle memory = to.source().allocate(size, alignment);
  std::memcpy(memory.data(), bytes, size);
  const auto index = to.attach({.handle = std::move(memory), .offset = 0, .length = size, .mode = access::own});
  return {.index = index, .reserved = 0, .offset = 0};
}

/// While it lives, the elements of an argument are copied: no task may write to them meanwhile, as if they were lent.
/// An array small enough to ride in the message must be refused in the same cases as a larger one.
class copying {
 public:
  copying(packer& to, const array_description& what, std::size_t bytes, purpose why)
      : source_(to.source()), owner_(what.owner), length_(bytes) {
    if ((why != purpose::lend && why != purpose::give) || !owner_ || !owner_->is_shared()) {
      owner_ = nullptr;
      return;
    }
    offset_ = static_cast<std::uint64_t>(static_cast<const std::byte*>(what.elements) - owner_->data());
    for (const std::uint32_t index : to.written()) {
      const attachment& each = to.attachments()[index];
      if (each.handle == *owner_ && ranges_overlap(each.offset, each.length, offset_, length_)) throw_array_busy(true);
    }
    to.copied().push_back({owner_->get(), offset_, length_});
    if (!source_.begin_read(*owner_, offset_, length_)) throw_array_busy(false);
  }
  copying(const copying&) = delete;
  copying& operator=(const copying&) = delete;
  ~copying() {
    if (owner_) source_.end_read(*owner_, offset_, length_);
  }

 private:
  segment_source& source_;
  const shm_handle* owner_;
  std::uint64_t offset_ = 0, length_;
};

// How the receiver may use the sender's own memory, or nothing if it has to be a copy.
std::optional<access> access_without_copy(packer& to, const array_description& what, purpose why) noexcept {
  if (!what.owner || !to.source().can_lend(*what.owner)) return std::nullopt;
  switch (why) {
    case purpose::lend: return access::read;
    case purpose::lend_write: return access::write;
    case purpose::give: return what.sole_owner ? std::optional(access::own) : std::nullopt;
    case purpose::share: return what.sole_owner ? access::own : access::read;
    case purpose::share_write: return what.sole_owner ? access::own : access::write;
  }
  return std::nullopt;
}

// The `size` bytes that a reference points to, after every check that the attachment allows.
const attachment& checked_attachment(unpacker& from, const segment_reference& reference, std::size_t size) {
  const attachment& attached = from.attached(reference.index);
  if (reference.reserved != 0) throw_protocol_violation("segment reference with reserved bits set");
  if (attached.mode != access::read && attached.mode != access::write && attached.mode != access::own) {
    throw_protocol_violation("array in a segment that was attached for another use");
  }
  if (!attached.handle.data()) throw_protocol_violation("array in a segment that is not mapped");
  if (attached.offset > attached.handle.size() || attached.length > attached.handle.size() - attached.offset) {
    throw_protocol_violation("attached range reaches beyond its segment");
  }
  if (reference.offset > attached.length || size > attached.length - reference.offset) {
    throw_protocol_violation("array reaches beyond the attached range");
  }
  return attached;
}

const std::byte* address(const attachment& attached, const segment_reference& reference) noexcept {
  return attached.handle.data() + attached.offset + reference.offset;
}

}  // namespace

void put_array(packer& to, const array_description& what, purpose why) {
  std::size_t bytes = 0;
  if (!total_bytes(what.extents, what.element_size, bytes)) throw_extents_too_large();

  placement where = placement::in_segment;
  if (bytes == 0) {
    where = placement::empty;
  } else if (bytes <= to.inline_limit() && why != purpose::lend_write) {
    where = placement::in_message;
  }
  to.expect(sizeof(array_header) + what.extents.size_bytes() +
            (where == placement::in_message ? bytes : sizeof(segment_reference)));
  to.put(array_header{.where = static_cast<std::uint8_t>(where),
                      .rank = static_cast<std::uint8_t>(what.extents.size()),
                      .reserved = 0,
                      .element_size = static_cast<std::uint32_t>(what.element_size)});
  to.put_bytes(what.extents.data(), what.extents.size_bytes());

  if (where == placement::in_message) {
    const copying claim(to, what, bytes, why);
    to.put_bytes(what.elements, bytes);
  } else if (where == placement::in_segment) {
    if (const auto mode = access_without_copy(to, what, why)) {
      const auto offset = static_cast<std::uint64_t>(static_cast<const std::byte*>(what.elements) - what.owner->data());
      if (why == purpose::lend_write) {
        for (const auto& each : to.copied()) {
          if (each.from == what.owner->get() && ranges_overlap(each.offset, each.length, offset, bytes))
            throw_array_busy(true);
        }
      }
      const auto index = to.attach({.handle = *what.owner, .offset = offset, .length = bytes, .mode = *mode});
      to.put(segment_reference{.index = index, .reserved = 0, .offset = 0});
    } else if (why == purpose::lend_write) {
      throw std::invalid_argument(
          "shmpool: an array<T>& or std::span<T> parameter is written in place by the task, so the array must be in "
          "shared memory: make it with pool.make_array<T>() (small results of tasks are private memory, too)");
    } else {
      const copying claim(to, what, bytes, why);
      to.put(copy_to_new_segment(to, what.elements, bytes, what.alignment));
    }
  }
}

received_array take_array(unpacker& from, std::size_t element_size, std::size_t alignment, bool writable,
                          std::span<std::size_t> extents) {
  const auto header = from.get<array_header>();
  if (header.rank != extents.size()) throw_protocol_violation("array of another rank than the function's");
  if (header.element_size != element_size)
    throw_protocol_violation("array of another element size than the function's");
  if (header.reserved != 0) throw_protocol_violation("array with reserved bits set");
  from.get_bytes(extents.data(), extents.size_bytes());
  std::size_t bytes = 0;
  if (!total_bytes(extents, element_size, bytes)) throw_protocol_violation("array whose extents overflow");

  switch (static_cast<placement>(header.where)) {
    case placement::empty:
      if (bytes != 0) throw_protocol_violation("array that is marked empty and is not");
      return {};
    case placement::in_message:
      if (bytes == 0) throw_protocol_violation("array without elements that is not marked empty");
      return {.owner = nullptr, .elements = from.take(bytes).data(), .bytes = bytes};
    case placement::in_segment: {
      if (bytes == 0) throw_protocol_violation("array without elements that is not marked empty");
      const auto reference = from.get<segment_reference>();
      const attachment& attached = checked_attachment(from, reference, bytes);
      if (writable && attached.mode != access::write && attached.mode != access::own) {
        throw_protocol_violation("mutable array in memory that was lent for reading");
      }
      const std::byte* elements = address(attached, reference);
      if (reinterpret_cast<std::uintptr_t>(elements) % alignment != 0) {
        throw_protocol_violation("array whose elements are not aligned");
      }
      return {.owner = &attached.handle, .elements = elements, .bytes = bytes};
    }
  }
  throw_protocol_violation("array of an unknown placement");
}

void put_block(packer& to, const void* bytes, std::size_t size) {
  if (size <= to.inline_limit() || size == 0) {
    to.put(placement::in_message);
    to.put_bytes(bytes, size);
  } else {
    to.put(placement::in_segment);
    to.put(copy_to_new_segment(to, bytes, size, alignof(std::max_align_t)));
  }
}

const std::byte* take_block(unpacker& from, std::size_t size) {
  switch (from.get<placement>()) {
    case placement::in_message: return from.take(size).data();
    case placement::in_segment: {
      const auto reference = from.get<segment_reference>();
      return address(checked_attachment(from, reference, size), reference);
    }
    case placement::empty: break;
  }
  throw_protocol_violation("block of an unknown placement");
}

}  // namespace shmpool::detail
