// A program or shared library as it lies in memory: where its code is, and an identity that the same file has in every
// process. Thread safety: a module_image may be used only inside the dl_iterate_phdr callback that it was made in,
// which keeps the module from being unloaded.
#pragma once

#include <link.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace shmpool::code {

/// How a module identity was found. The values are part of the wire format: the first byte of every identity, so that
/// one kind is never taken for the other.
enum class identity_kind : std::uint8_t {
  build_id = 1,  ///< followed by the linker's NT_GNU_BUILD_ID
  contents = 2,  ///< followed by a 20-byte hash, for modules that were linked without one
};

/// Build ids have 8 to 32 bytes in practice; a longer one is treated as if there were none.
inline constexpr std::size_t max_build_id = 64;
inline constexpr std::size_t max_module_id = 1 + max_build_id;

/// The build id in the notes of a module, whose PT_NOTE segment has that alignment (4 or 8); empty if there is none.
std::span<const std::byte> find_build_id(std::span<const std::byte> notes, std::uint64_t alignment) noexcept;

class module_image {
 public:
  explicit module_image(const dl_phdr_info& info) noexcept
      : base_(info.dlpi_addr), segments_(info.dlpi_phdr, info.dlpi_phnum) {}

  /// Where the module was loaded: the difference between its addresses and those in its file.
  std::uintptr_t base() const noexcept { return base_; }

  /// Whether the address (relative to base) lies in an executable segment.
  bool is_code(std::uint64_t offset) const noexcept;

  /// The build id, without its kind; empty if there is none.
  std::span<const std::byte> build_id() const noexcept;

  /// kind and build id, or kind and a hash of everything that is readable and not writable, so of the code and the
  /// constants it uses: two multiplicative hashes of 64 bits over 8-byte words, and the number of bytes. It tells
  /// builds apart; it does not resist deliberate collisions. Reads the whole module. Nothing if the module has neither
  /// a build id nor readable code.
  std::optional<std::vector<std::byte>> identity() const;

  /// Whether identity() == `wanted`. Reads the whole module only where it has no build id and `wanted` is none.
  bool has_identity(std::span<const std::byte> wanted) const;

 private:
  bool is_readable(std::uint64_t offset, std::uint64_t size) const noexcept;
  std::span<const std::byte> bytes(std::uint64_t offset, std::uint64_t size) const noexcept;

  std::uintptr_t base_;
  std::span<const ElfW(Phdr)> segments_;
};

}  // namespace shmpool::code
