// Registers exception types of an application, so that they arrive from a worker with their own type. Any other
// exception arrives as its nearest standard or registered base, with its text and type name.
//
// Thread safety: any thread may register, unregister and look up.
#pragma once

#include <shmpool/exception_traits.hpp>
#include <shmpool/register_error_category.hpp>
#include <shmpool/remote_error.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <vector>

namespace shmpool {

namespace detail {

/// The functions that save and revive exceptions of one registered type.
struct exception_carrier {
  const std::type_info* type;

  /// Saves the thrown object; false if it cannot be caught as this type. `text` is set if the type has a text that
  /// std::exception does not show. Throws what the type's traits throw.
  bool (*save)(const std::exception_ptr& error, std::vector<std::byte>& state, std::string& text);

  /// The exception to throw in the parent. Throws what the type's traits throw.
  std::exception_ptr (*revive)(std::span<const std::byte> state, const remote_error& origin);
};

/// Keeps a type registered while it lives: the registrations of a library go when the library is unloaded.
class exception_registration {
 public:
  explicit exception_registration(const exception_carrier& carrier) noexcept;
  ~exception_registration();
  exception_registration(const exception_registration&) = delete;
  exception_registration& operator=(const exception_registration&) = delete;

  /// The carrier of the type with that typeid name. Nothing if two different types have that name, as types of
  /// anonymous namespaces may: a wrong guess would rebuild the wrong type.
  static std::optional<exception_carrier> find(std::string_view type_key);

 private:
  exception_carrier carrier_;
  // Links of the list of all registrations: registering allocates nothing, so it cannot fail before main.
  exception_registration* previous_ = nullptr;
  exception_registration* next_ = nullptr;
};

template <class E>
bool save_exception(const std::exception_ptr& error, std::vector<std::byte>& state, std::string& text) {
  try {
    std::rethrow_exception(error);
  } catch (const E& thrown) {
    if constexpr (has_what<E> && !std::derived_from<E, std::exception>) {
      if (const char* what = thrown.what()) text = what;
    }
    state = exception_traits<E>::save(thrown);
    return true;
  } catch (...) {
    return false;
  }
}

template <class E>
std::exception_ptr revive_exception(std::span<const std::byte> state, const remote_error& origin) {
  if constexpr (std::is_class_v<E> && !std::is_final_v<E>) {
    return std::make_exception_ptr(remote_exception<E>(exception_traits<E>::load(state), origin));
  } else {
    return std::make_exception_ptr(E(exception_traits<E>::load(state)));
  }
}

template <class E>
exception_carrier carrier_of() noexcept {
  static_assert(std::is_same_v<E, std::decay_t<E>>, "register the type itself, without const or reference");
  return {&typeid(E), &save_exception<E>, &revive_exception<E>};
}

}  // namespace detail
}  // namespace shmpool

/// SHMPOOL_REGISTER_EXCEPTION(my::error); at namespace scope: a my::error thrown by a task is thrown in the parent as
/// remote_exception<my::error>, which derives from my::error (as my::error itself if that is final). How its contents
/// travel is up to exception_traits. Unregistered types derived from my::error arrive as my::error. Registering a type
/// more than once is harmless.
#define SHMPOOL_REGISTER_EXCEPTION(...)                                                        \
  [[maybe_unused]] static const ::shmpool::detail::exception_registration SHMPOOL_DETAIL_JOIN( \
      shmpool_registered_exception_, __COUNTER__) {                                            \
    ::shmpool::detail::carrier_of<__VA_ARGS__>()                                               \
  }
