// Reads program headers, notes and code of loaded modules. Every range is checked against the segments before it is
// read: a stripped or patched module may carry notes that point anywhere. Thread safety: as the header says.
#include "code/module_image.hpp"

#include <elf.h>

#include <algorithm>
#include <cstring>

namespace shmpool::code {
namespace {

constexpr std::uint64_t round_up(std::uint64_t size, std::uint64_t alignment) noexcept {
  return (size + alignment - 1) & ~(alignment - 1);
}

class content_hash {
 public:
  void add(std::span<const std::byte> bytes) noexcept {
    size_ += bytes.size();
    while (!bytes.empty()) {
      std::uint64_t word = 0;
      const auto part = std::min(bytes.size(), sizeof word);
      std::memcpy(&word, bytes.data(), part);
      bytes = bytes.subspan(part);
      // The shift brings the high bits down, which multiplication alone never does.
      first_ = (first_ ^ word) * 0x100000001b3U;
      first_ ^= first_ >> 29;
      second_ = (second_ + word) * 0x9e3779b97f4a7c15U;
      second_ ^= second_ >> 32;
    }
  }

  void append_to(std::vector<std::byte>& to) const {
    append(to, first_, sizeof first_);
    append(to, second_, sizeof second_);
    append(to, size_, 4);
  }

 private:
  static void append(std::vector<std::byte>& to, std::uint64_t value, unsigned size) {
    for (unsigned i = 0; i != size; ++i) to.push_back(static_cast<std::byte>((value >> (8 * i)) & 0xff));
  }

  std::uint64_t first_ = 0xcbf29ce484222325U;
  std::uint64_t second_ = 0x6a09e667f3bcc908U;
  std::uint64_t size_ = 0;
};

constexpr bool contains(const ElfW(Phdr) & segment, std::uint64_t offset, std::uint64_t size) noexcept {
  return offset >= segment.p_vaddr && size <= segment.p_memsz && offset - segment.p_vaddr <= segment.p_memsz - size;
}

}  // namespace

std::span<const std::byte> find_build_id(std::span<const std::byte> notes, std::uint64_t alignment) noexcept {
  constexpr char owner[] = "GNU";
  std::uint64_t at = 0;  // each step stays below notes.size() + 2^33
  while (at < notes.size() && notes.size() - at >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) header;
    std::memcpy(&header, notes.data() + at, sizeof header);
    const std::uint64_t name = at + sizeof header;
    const std::uint64_t description = round_up(name + header.n_namesz, alignment);
    if (description + header.n_descsz > notes.size()) break;
    if (header.n_type == NT_GNU_BUILD_ID && header.n_namesz == sizeof owner &&
        std::memcmp(notes.data() + name, owner, sizeof owner) == 0) {
      return notes.subspan(description, header.n_descsz);
    }
    at = round_up(description + header.n_descsz, alignment);
  }
  return {};
}

bool module_image::is_code(std::uint64_t offset) const noexcept {
  return std::any_of(segments_.begin(), segments_.end(), [&](const auto& segment) {
    return segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0 && contains(segment, offset, 1);
  });
}

bool module_image::is_readable(std::uint64_t offset, std::uint64_t size) const noexcept {
  return std::any_of(segments_.begin(), segments_.end(), [&](const auto& segment) {
    return segment.p_type == PT_LOAD && (segment.p_flags & PF_R) != 0 && contains(segment, offset, size);
  });
}

std::span<const std::byte> module_image::bytes(std::uint64_t offset, std::uint64_t size) const noexcept {
  return {reinterpret_cast<const std::byte*>(base_ + offset), size};
}

std::span<const std::byte> module_image::build_id() const noexcept {
  for (const auto& segment : segments_) {
    if (segment.p_type != PT_NOTE || !is_readable(segment.p_vaddr, segment.p_memsz)) continue;
    const auto id = find_build_id(bytes(segment.p_vaddr, segment.p_memsz), segment.p_align == 8 ? 8 : 4);
    if (!id.empty() && id.size() <= max_build_id) return id;
  }
  return {};
}

std::optional<std::vector<std::byte>> module_image::identity() const {
  std::vector<std::byte> result;
  if (const auto id = build_id(); !id.empty()) {
    result.reserve(1 + id.size());
    result.push_back(std::byte{static_cast<std::uint8_t>(identity_kind::build_id)});
    result.insert(result.end(), id.begin(), id.end());
    return result;
  }
  content_hash hash;
  bool has_code = false;
  for (const auto& segment : segments_) {
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_R) == 0 || (segment.p_flags & PF_W) != 0) continue;
    has_code = has_code || (segment.p_flags & PF_X) != 0;
    hash.add(bytes(segment.p_vaddr, std::min(segment.p_filesz, segment.p_memsz)));
  }
  if (!has_code) return std::nullopt;
  result.push_back(std::byte{static_cast<std::uint8_t>(identity_kind::contents)});
  hash.append_to(result);
  return result;
}

bool module_image::has_identity(std::span<const std::byte> wanted) const {
  if (wanted.empty()) return false;
  const auto id = build_id();
  if (wanted[0] == std::byte{static_cast<std::uint8_t>(identity_kind::build_id)}) {
    return !id.empty() && std::equal(id.begin(), id.end(), wanted.begin() + 1, wanted.end());
  }
  if (!id.empty()) return false;
  const auto contents = identity();
  return contents && std::equal(contents->begin(), contents->end(), wanted.begin(), wanted.end());
}

}  // namespace shmpool::code
