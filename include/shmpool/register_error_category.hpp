// Registers the error categories of a program. An error code is a number and the address of its category, and addresses
// mean nothing in another process: the category travels as its name(), and the process that gets the code looks up the
// name. The standard categories, shmpool's own and Asio's are known.
//
// Thread safety: any thread may register, unregister and look up.
#pragma once

#include <concepts>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <typeinfo>
#include <utility>

// Boost's classes are only declared, so that nothing of Boost is included here.
namespace boost::system {
class error_category;
class error_code;
class error_condition;
}  // namespace boost::system

namespace shmpool {

/// Lets codes of `category` arrive with their category, in exceptions, arguments and results. The category has to live
/// as long as the process does, as error categories should. Registering another category of the same name replaces it.
/// A category that main registers after init() is registered in the application alone, for codes that come from
/// workers; SHMPOOL_REGISTER_ERROR_CATEGORY at namespace scope serves both directions.
void register_error_category(const std::error_category& category);

namespace detail {

/// Decides which of two categories of one kind and name is found.
enum class category_rank : unsigned char {
  chosen,  ///< by register_error_category
  own,     ///< a category as it is
  view,    ///< a category of one kind that was made from one of another kind
};

/// Keeps a category registered while it lives: the registration of a library goes when the library is unloaded. Among
/// categories of one rank the first that was registered wins, so that loading a plugin does not change what others
/// have.
class category_registration {
 public:
  explicit category_registration(const std::error_category& category, category_rank rank = category_rank::own) noexcept
      : category_registration(typeid(std::error_category), &category, category.name(), rank) {}
  template <class Category>
    requires std::same_as<Category, boost::system::error_category>
  explicit category_registration(const Category& category, category_rank rank = category_rank::own) noexcept
      : category_registration(typeid(Category), &category, category.name(), rank) {}
  ~category_registration();
  category_registration(const category_registration&) = delete;
  category_registration& operator=(const category_registration&) = delete;

  /// The category of that kind and name, null if there is none. `kind` is the abstract class.
  static const void* find(const std::type_info& kind, std::string_view name) noexcept;

 private:
  category_registration(const std::type_info& kind, const void* category, const char* name,
                        category_rank rank) noexcept;

  const std::type_info* kind_;
  const void* category_;
  const char* name_;
  category_rank rank_;
  // Links of the list of all registrations: registering allocates nothing, so it cannot fail before main.
  category_registration* previous_ = nullptr;
  category_registration* next_ = nullptr;
};

/// Stands for a category that this process does not know. A code of it keeps its value and nothing else.
template <class Category>
class foreign_category final : public Category {
 public:
  const char* name() const noexcept override { return "shmpool.foreign"; }
  std::string message(int value) const override {
    return "error " + std::to_string(value) +
           " of a category that this process does not know; see shmpool::register_error_category";
  }
};

/// An object that is never destroyed, so that codes may be looked at in destructors of static objects.
template <class Category>
const Category& foreign() noexcept {
  union immortal {
    foreign_category<Category> category;
    immortal() : category() {}
    ~immortal() {}
  };
  static const immortal instance;
  return instance.category;
}

/// The category of that name: standard, shmpool's or registered; the foreign one if there is none.
const std::error_category& error_category_named(std::string_view name) noexcept;

template <class Code>
using category_of = std::remove_cvref_t<decltype(std::declval<const Code&>().category())>;

/// The same for codes of the class `Code`.
template <class Code>
const category_of<Code>& category_named(std::string_view name) noexcept {
  using category = category_of<Code>;
  if constexpr (std::same_as<category, std::error_category>) {
    return error_category_named(name);
  } else {
    // A library's own categories are those of a default-constructed code and of its condition.
    const Code blank;
    if (blank.category().name() == name) return blank.category();
    if constexpr (requires { blank.default_error_condition().category(); }) {
      const decltype(blank.default_error_condition()) condition;
      if (condition.category().name() == name) return condition.category();
    }
    const void* found = category_registration::find(typeid(category), name);
    return found != nullptr ? *static_cast<const category*>(found) : foreign<category>();
  }
}

}  // namespace detail
}  // namespace shmpool

#define SHMPOOL_DETAIL_JOIN_(a, b) a##b
#define SHMPOOL_DETAIL_JOIN(a, b) SHMPOOL_DETAIL_JOIN_(a, b)

/// SHMPOOL_REGISTER_ERROR_CATEGORY(my::category()); at namespace scope: codes of that category keep it, in whatever
/// direction they travel. Takes std::error_category and boost::system::error_category by reference. Registering a
/// category more than once is harmless. Programs that use Asio's category for OpenSSL register it:
/// SHMPOOL_REGISTER_ERROR_CATEGORY(asio::error::get_ssl_category());
#define SHMPOOL_REGISTER_ERROR_CATEGORY(...)                                                  \
  [[maybe_unused]] static const ::shmpool::detail::category_registration SHMPOOL_DETAIL_JOIN( \
      shmpool_registered_category_, __COUNTER__) {                                            \
    __VA_ARGS__                                                                               \
  }
