// The functions that a pool has been asked to run: for each a small number, the name that it has for workers, and the
// memory that the result of its last run needed.
//
// Thread safety: none; the engine's lock guards it.
#pragma once

#include <shmpool/detail/callable_ref.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

namespace shmpool::pool {

struct function_record {
  detail::callable_ref callable;
  std::vector<std::byte> definition;      ///< body of the function frame
  std::vector<std::size_t> result_sizes;  ///< bytes of the segments that the last run used for its result
};

class function_table {
 public:
  /// The number of a function; looks a new one up in its module. Throws
  /// std::system_error(errc::function_not_found) for an address that is in no module.
  std::uint32_t number(const detail::callable_ref& callable);
  function_record& operator[](std::uint32_t number) { return records_[number]; }

 private:
  struct hash {
    std::size_t operator()(const detail::callable_ref& key) const noexcept {
      const auto entry = reinterpret_cast<std::uintptr_t>(key.entry);
      const auto target = reinterpret_cast<std::uintptr_t>(key.target);
      return std::hash<std::uintptr_t>{}(entry ^ (target * 0x9e3779b97f4a7c15U));
    }
  };
  std::unordered_map<detail::callable_ref, std::uint32_t, hash> numbers_;
  static constexpr std::uint32_t none = ~std::uint32_t{0};
  std::uint32_t latest_ = none;  // consecutive calls are mostly for the same function
  bool beyond_program_ = false;  // some function lies in a shared library, which may be unloaded
  std::uint64_t unloads_ = 0;    // numbers_ is valid while code::unload_count() has this value
  std::vector<function_record> records_;
};

}  // namespace shmpool::pool
