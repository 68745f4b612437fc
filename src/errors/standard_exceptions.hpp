// The standard exception types that a worker can send, and the numbers that name them on the wire.
// Thread safety: stateless.
#pragma once

#include <any>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <future>
#include <ios>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <tuple>
#include <typeinfo>
#include <variant>

namespace shmpool::detail {

template <std::uint8_t Kind, class E>
struct standard_exception {
  static constexpr std::uint8_t kind = Kind;
  using type = E;
};

inline constexpr std::uint8_t kind_exception = 1;
inline constexpr std::uint8_t kind_runtime_error = 7;
inline constexpr std::uint8_t kind_filesystem_error = 12;
inline constexpr std::uint8_t kind_bad_alloc = 14;

/// Derived types stand before their bases, so that the first match is the nearest one. The numbers never change.
using standard_exceptions = std::tuple<                                            //
    standard_exception<kind_filesystem_error, std::filesystem::filesystem_error>,  //
    standard_exception<13, std::ios_base::failure>,                                //
    standard_exception<11, std::system_error>,                                     //
    standard_exception<8, std::range_error>,                                       //
    standard_exception<9, std::overflow_error>,                                    //
    standard_exception<10, std::underflow_error>,                                  //
    standard_exception<kind_runtime_error, std::runtime_error>,                    //
    standard_exception<3, std::invalid_argument>,                                  //
    standard_exception<4, std::domain_error>,                                      //
    standard_exception<5, std::length_error>,                                      //
    standard_exception<6, std::out_of_range>,                                      //
    standard_exception<24, std::future_error>,                                     //
    standard_exception<2, std::logic_error>,                                       //
    standard_exception<15, std::bad_array_new_length>,                             //
    standard_exception<kind_bad_alloc, std::bad_alloc>,                            //
    standard_exception<18, std::bad_any_cast>,                                     //
    standard_exception<16, std::bad_cast>,                                         //
    standard_exception<17, std::bad_typeid>,                                       //
    standard_exception<19, std::bad_optional_access>,                              //
    standard_exception<20, std::bad_variant_access>,                               //
    standard_exception<21, std::bad_function_call>,                                //
    standard_exception<22, std::bad_weak_ptr>,                                     //
    standard_exception<23, std::bad_exception>,                                    //
    standard_exception<kind_exception, std::exception>>;

/// Calls `visit.operator()<S>()` for one standard_exception after the other until one returns true; false if none did.
template <class Visitor>
bool visit_standard_exceptions(Visitor&& visit) {
  return [&]<class... S>(std::tuple<S...>*) {
    return (visit.template operator()<S>() || ...);
  }(static_cast<standard_exceptions*>(nullptr));
}

}  // namespace shmpool::detail
