// Lets a boost::system::system_error of a task arrive as one, with its code. Include this header where tasks throw such
// errors; with Boost.Asio, shmpool.hpp does. boost::system::error_code as an argument or a result needs no header.
//
// Thread safety: any thread.
#pragma once

#include <shmpool/detail/codec/error_code_codec.hpp>
#include <shmpool/detail/codec/little_endian.hpp>
#include <shmpool/register_exception.hpp>

#include <boost/system/error_code.hpp>
#include <boost/system/system_error.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace shmpool {

/// The error keeps the text that it had in the worker; its boost::source_location does not travel.
template <>
struct exception_traits<boost::system::system_error> : detail::carried_as_text {
  static std::vector<std::byte> save(const boost::system::system_error& error) {
    const auto code = detail::name_error_code(error.code());
    std::vector<std::byte> state;
    detail::append_le(state, static_cast<std::uint32_t>(code.value));
    detail::append_le(state, static_cast<std::uint8_t>(code.wrapped ? 1 : 0));
    detail::append_string(state, code.category);
    return state;
  }
  static boost::system::system_error load(std::span<const std::byte> state) {
    detail::unpacker from(state, {});
    detail::named_error_code code;
    code.value = static_cast<std::int32_t>(detail::take_le<std::uint32_t>(from));
    code.wrapped = detail::take_le<std::uint8_t>(from) != 0;
    code.category = detail::take_string(from, detail::max_exception_text);
    return boost::system::system_error(detail::revive_error_code<boost::system::error_code>(code));
  }
};

namespace detail {

// One object per module, and hidden: a module's registrations go when it is unloaded.
struct boost_system_registrations {
  category_registration generic{boost::system::generic_category()};
  category_registration system{boost::system::system_category()};
  exception_registration error{carrier_of<boost::system::system_error>()};
};
[[gnu::visibility("hidden")]] inline const boost_system_registrations known_to_boost_system;

}  // namespace detail
}  // namespace shmpool
