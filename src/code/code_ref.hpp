// Names for code that mean the same in every process: a module and an offset in it. Addresses do not, because modules
// are loaded at different places and at different times.
//
// Thread safety: any thread may call these, also while others load and unload modules; the caller keeps the module of
// the address in question loaded during the call.
#pragma once

#include <shmpool/detail/codec/message.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace shmpool::code {

struct code_ref {
  /// Identifies the module, wherever it was loaded: its build id, or a hash of its contents if it was linked without
  /// one. The first byte tells which (identity_kind).
  std::vector<std::byte> module_id;
  /// From the module's load address.
  std::uint64_t offset = 0;
  /// Where the module was loaded from, so that a process that has not loaded it can do so. Empty if nobody knows.
  std::string path;

  friend bool operator==(const code_ref&, const code_ref&) = default;
};

/// The name of the code at `address`; nothing if no module has executable code there. Remembers its answers, for as
/// long as no module is unloaded.
std::optional<code_ref> locate(const void* address);
/// The same; throws std::system_error(errc::function_not_found) that says that `what` is in no module.
code_ref locate_or_throw(const void* address, const char* what);

/// How many modules were unloaded so far. Answers of locate() about code outside of the program itself hold while this
/// count stays the same: afterwards another module may lie at the same address.
std::uint64_t unload_count();

/// The address of that code in this process. A module that is not loaded yet is opened, and stays open for the rest of
/// the process. Returns null, and a sentence in `why_not`, if there is no such module, if its file is another one by
/// now, or if the offset lies outside of its code.
///
/// A file of the right name with the wrong contents is found out only after it was opened: its static constructors run.
const void* resolve(const code_ref& ref, std::string& why_not);

/// The bytes of a reference in a frame: `u8` size of module_id and module_id, `u64` offset, `u32` size of path and
/// path; little endian.
void append_code_ref(std::vector<std::byte>& to, const code_ref& ref);

/// Throws std::system_error(errc::protocol_violation) if the bytes are no reference.
code_ref decode_code_ref(detail::unpacker& from);

}  // namespace shmpool::code
