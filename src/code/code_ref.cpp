// Finds modules with dl_iterate_phdr and opens missing ones with dlopen. Thread safety: as the header says; the cache's
// mutex is never held while the loader's locks are being waited for.
#include "code/code_ref.hpp"

#include "code/module_image.hpp"
#include "code/program_file.hpp"
#include "process/mutex.hpp"
#include "process/no_destructor.hpp"

#include <shmpool/detail/codec/little_endian.hpp>
#include <shmpool/error.hpp>

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <unistd.h>

#include <array>
#include <cinttypes>
#include <cstdio>
#include <exception>
#include <memory>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace shmpool::code {
namespace {

constexpr std::size_t max_path = PATH_MAX;

/// A module on the loader's list, and how many unloads there had been when it was seen.
struct visited {
  module_image image;
  const char* name;
  bool is_program;
  std::uint64_t unloads;
};

/// Calls `visit(const visited&)` for every loaded module, the program first, until it returns true. No module is loaded
/// or unloaded meanwhile.
template <class F>
void visit_modules(F visit) {
  struct state {
    F& visit;
    bool is_first = true;
    std::exception_ptr error = nullptr;  // must not fly through the loader's frames
  } visiting{visit};
  const auto step = [](dl_phdr_info* info, std::size_t, void* context) -> int {
    auto& now = *static_cast<state*>(context);
    try {
      const bool is_program = std::exchange(now.is_first, false);
      return now.visit(visited{module_image(*info), info->dlpi_name, is_program, info->dlpi_subs}) ? 1 : 0;
    } catch (...) {
      now.error = std::current_exception();
      return 1;
    }
  };
  ::dl_iterate_phdr(step, &visiting);
  if (visiting.error) std::rethrow_exception(visiting.error);
}

std::string program_path() {
  std::array<char, max_path> target;
  const auto size = ::readlink("/proc/self/exe", target.data(), target.size());
  return size > 0 ? std::string(target.data(), static_cast<std::size_t>(size)) : std::string();
}

/// A relative name that dlopen was given belongs to the working directory of that time, not to the present one.
std::string absolute_path(std::string name, const void* address) {
  if (name.starts_with('/')) return name;
  return mapped_file(reinterpret_cast<std::uintptr_t>(address));
}

struct found_code {
  code_ref ref;
  bool is_program = false;
  std::uint64_t unloads = 0;
};

/// What locate() has answered. A module that is unloaded may be followed by another one at the same address, so answers
/// hold until the loader's count of unloads changes; those about the program hold for ever.
class answers {
 public:
  std::optional<code_ref> find(const void* address, std::uint64_t unloads) {
    const mutex_lock lock(mutex_);
    const auto known = known_.find(address);
    if (known == known_.end()) return std::nullopt;
    if (!known->second.is_program && known->second.unloads != unloads) return std::nullopt;
    return known->second.ref;
  }

  /// The identity of the module that is loaded at `base`, which may have been expensive to find out.
  std::optional<std::vector<std::byte>> find_module(std::uintptr_t base, std::uint64_t unloads) {
    const mutex_lock lock(mutex_);
    for (const auto& [address, answer] : known_) {
      if (reinterpret_cast<std::uintptr_t>(address) - answer.ref.offset != base) continue;
      if (answer.is_program || answer.unloads == unloads) return answer.ref.module_id;
    }
    return std::nullopt;
  }

  void add(const void* address, const found_code& answer) {
    const mutex_lock lock(mutex_);
    std::erase_if(
        known_, [&](const auto& entry) { return !entry.second.is_program && entry.second.unloads != answer.unloads; });
    known_.insert_or_assign(address, answer);
  }

 private:
  mutex mutex_;
  std::unordered_map<const void*, found_code> known_ SHMPOOL_GUARDED_BY(mutex_);
};

answers& cache() {
  static no_destructor<answers> instance;
  return instance.value;
}

std::optional<found_code> find_code(const void* address) {
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  std::optional<found_code> found;
  visit_modules([&](const visited& module) {
    const std::uint64_t offset = wanted - module.image.base();
    if (!module.image.is_code(offset)) return false;
    auto id = cache().find_module(module.image.base(), module.unloads);
    if (!id) id = module.image.identity();
    if (id) {
      found = found_code{{std::move(*id), offset, module.name ? module.name : ""}, module.is_program, module.unloads};
    }
    return true;
  });
  if (!found) return std::nullopt;
  found->ref.path = found->is_program ? program_path() : absolute_path(std::move(found->ref.path), address);
  return found;
}

/// Whether the module is loaded, and if so the address of the code in it, or null if there is no code at the offset.
std::pair<bool, const void*> find_address(const code_ref& ref) {
  std::pair<bool, const void*> found = {false, nullptr};
  visit_modules([&](const visited& module) {
    if (!module.image.has_identity(ref.module_id)) return false;
    found.first = true;
    if (module.image.is_code(ref.offset)) {
      found.second = reinterpret_cast<const void*>(module.image.base() + ref.offset);
    }
    return found.second != nullptr;
  });
  return found;
}

struct close_module {
  void operator()(void* handle) const noexcept { ::dlclose(handle); }
};
using module_handle = std::unique_ptr<void, close_module>;

std::string hexadecimal(std::uint64_t value) {
  std::array<char, 24> text;
  std::snprintf(text.data(), text.size(), "0x%" PRIx64, value);
  return text.data();
}

std::string other_contents(const std::string& path, const std::vector<std::byte>& wanted) {
  const bool by_build_id =
      !wanted.empty() && wanted[0] == std::byte{static_cast<std::uint8_t>(identity_kind::build_id)};
  return "module " + path + (by_build_id ? " has another build id than" : " has other contents than") +
         " the parent's: it was replaced on disk";
}

}  // namespace

std::uint64_t unload_count() {
  std::uint64_t unloads = 0;
  visit_modules([&](const visited& any) {
    unloads = any.unloads;
    return true;
  });
  return unloads;
}

std::optional<code_ref> locate(const void* address) {
  if (auto known = cache().find(address, unload_count())) return known;
  auto found = find_code(address);
  if (!found) return std::nullopt;
  cache().add(address, *found);
  return std::move(found->ref);
}

code_ref locate_or_throw(const void* address, const char* what) {
  auto where = locate(address);
  if (where) return *std::move(where);
  throw std::system_error(errc::function_not_found, std::string(what) + " is in no module of this program");
}

const void* resolve(const code_ref& ref, std::string& why_not) {
  auto [is_loaded, address] = find_address(ref);
  if (!is_loaded) {
    if (ref.path.empty()) {
      why_not = "the module of the function is not loaded in the worker, and its path is unknown";
      return nullptr;
    }
    module_handle opened(::dlopen(ref.path.c_str(), RTLD_NOW | RTLD_LOCAL));
    if (!opened) {
      const char* reason = ::dlerror();
      why_not = "module " + ref.path + " cannot be opened in the worker: " + (reason ? reason : "no reason given");
      return nullptr;
    }
    std::tie(is_loaded, address) = find_address(ref);
    if (!is_loaded) {
      why_not = other_contents(ref.path, ref.module_id);
      return nullptr;
    }
    // The module's code may run until the last moment of the process, so the module stays open.
    static_cast<void>(opened.release());
  }
  if (address == nullptr) {
    why_not = "offset " + hexadecimal(ref.offset) + " lies outside of the code of module " + ref.path;
  }
  return address;
}

void append_code_ref(std::vector<std::byte>& to, const code_ref& ref) {
  detail::append_le(to, static_cast<std::uint8_t>(ref.module_id.size()));
  to.insert(to.end(), ref.module_id.begin(), ref.module_id.end());
  detail::append_le(to, ref.offset);
  // No file can be opened by a longer name.
  detail::append_string(to, ref.path.size() <= max_path ? std::string_view(ref.path) : std::string_view());
}

code_ref decode_code_ref(detail::unpacker& from) {
  code_ref ref;
  const std::size_t size = detail::take_le<std::uint8_t>(from);
  if (size < 2 || size > max_module_id) detail::throw_protocol_violation("module identity of impossible size");
  const auto id = from.take(size);
  const auto kind = static_cast<identity_kind>(id[0]);
  if (kind != identity_kind::build_id && kind != identity_kind::contents) {
    detail::throw_protocol_violation("module identity of an unknown kind");
  }
  ref.module_id.assign(id.begin(), id.end());
  ref.offset = detail::take_le<std::uint64_t>(from);
  ref.path = detail::take_string(from, max_path);
  if (ref.path.find('\0') != std::string::npos) detail::throw_protocol_violation("path with a null character");
  return ref;
}

}  // namespace shmpool::code
