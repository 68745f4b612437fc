// The checks of the archives.
#include <shmpool/serialize.hpp>

#include <stdexcept>

namespace shmpool {

namespace detail {

void throw_nested_too_deeply() {
  throw std::length_error(
      "shmpool: a value is nested too deeply to be sent; keep long lists in a container, not in a chain of pointers");
}

block_of_elements load_block_of(input_archive& archive, std::size_t element_size) {
  std::size_t count = 0;
  archive.load_bytes(&count, sizeof count);
  if (count > static_cast<std::size_t>(-1) / 2 / element_size) {
    throw_protocol_violation("container whose size overflows");
  }
  return {.elements = archive.load_block_in_place(count * element_size), .count = count};
}

}  // namespace detail

// Every element takes a byte or more, so all counts of a value together cannot exceed its bytes, and a reader may
// refuse counts that do before it allocates anything. Elements that write nothing at all (std::monostate, say) would
// break that rule; the bytes that they lack are added at the end. Both sides know how many: the counts less the bytes.

void output_archive::finish() {
  serializeDeferments();
  const std::size_t written = to_.bytes().size() - start_;
  if (counted_ > written) to_.bytes().resize(to_.bytes().size() + static_cast<std::size_t>(counted_ - written));
}

std::uint64_t input_archive::load_count() {
  const auto count = from_.get<std::uint64_t>();
  if (count > start_ - counted_)
    detail::throw_protocol_violation("container with more elements than the message holds");
  counted_ += count;
  return count;
}

void input_archive::finish() {
  serializeDeferments();
  const std::size_t consumed = start_ - from_.remaining();
  if (counted_ > consumed) from_.take(static_cast<std::size_t>(counted_ - consumed));
}

void input_archive::expect_shared(const std::type_info& type) {
  constexpr std::uint32_t new_object = 0x8000'0000;  // the flag that cereal adds to the number of one that follows
  detail::unpacker ahead = from_;
  const auto reference = ahead.get<std::uint32_t>();
  if (reference == 0) return;
  const std::uint32_t number = reference & ~new_object;
  const auto known = shared_types_.find(number);
  if ((reference & new_object) != 0) {
    if (known != shared_types_.end()) detail::throw_protocol_violation("two shared objects with one number");
    shared_types_.emplace(number, type);
  } else if (known == shared_types_.end() || known->second != type) {
    detail::throw_protocol_violation("shared pointer to an object of another type");
  }
}

}  // namespace shmpool
