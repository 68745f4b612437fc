// How error codes and conditions travel: by their value and the name of their category, which the receiver looks up.
// Serves the standard ones, and Boost's where a program has them. The layout is in docs/wire-arrays.md.
//
// Thread safety: stateless; the registry of categories locks itself.
#pragma once

#include <shmpool/register_error_category.hpp>

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

namespace shmpool {

class output_archive;
class input_archive;

namespace detail {

/// Types that hold a value and a pointer to the category that gives it its meaning.
template <class T>
concept error_code_type = std::same_as<T, std::error_code> || std::same_as<T, std::error_condition> ||
                          std::same_as<T, boost::system::error_code> || std::same_as<T, boost::system::error_condition>;

/// An error code or condition whose category is known by name, since addresses mean nothing elsewhere.
struct named_error_code {
  std::int32_t value = 0;
  std::string category;
  /// True if this is a std::error_code that a boost::system::error_code holds.
  bool wrapped = false;
};

/// The name that Boost gives the category of a code that holds a standard one.
inline constexpr std::string_view wrapping_category = "std:unknown";

template <error_code_type Code>
named_error_code name_error_code(const Code& code) {
  const std::string_view category = code.category().name();
  if constexpr (std::same_as<Code, boost::system::error_code> && std::is_constructible_v<Code, std::error_code>) {
    if (category == wrapping_category) {
      const std::error_code held = code;
      return {held.value(), held.category().name(), true};
    }
  }
  return {code.value(), std::string(category), false};
}

template <error_code_type Code>
Code revive_error_code(const named_error_code& code) {
  if constexpr (std::same_as<Code, boost::system::error_code> && std::is_constructible_v<Code, std::error_code>) {
    if (code.wrapped) return Code(std::error_code(code.value, error_category_named(code.category)));
  }
  return Code(code.value, category_named<Code>(code.category));
}

void save_error_code(output_archive& to, const named_error_code& code);
/// Throws protocol_violation if the message holds none.
named_error_code load_error_code(input_archive& from);

}  // namespace detail

template <detail::error_code_type Code>
void save(output_archive& to, const Code& code) {
  detail::save_error_code(to, detail::name_error_code(code));
}
template <detail::error_code_type Code>
void load(input_archive& from, Code& code) {
  code = detail::revive_error_code<Code>(detail::load_error_code(from));
}

}  // namespace shmpool
