// The names of types as a person would write them, and the bases of types. Thread safety: stateless.
#pragma once

#include <string>
#include <typeinfo>
#include <vector>

namespace shmpool::detail {

/// The demangled name, without what the implementation wraps around it: the type that throw_with_nested makes up, and
/// ABI tags.
std::string readable_name(const std::type_info& type);

/// The type and its public bases, nearest first. Where the C++ runtime does not show bases, the type alone.
std::vector<const std::type_info*> lineage(const std::type_info& type);

}  // namespace shmpool::detail
