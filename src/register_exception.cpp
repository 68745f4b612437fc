// The two registries of an application's own types: exceptions, and error categories.
// Thread safety: one mutex for both; no foreign code runs while it is held.
#include <shmpool/error.hpp>
#include <shmpool/register_exception.hpp>

#include <algorithm>
#include <array>
#include <future>
#include <ios>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "immortal.hpp"

namespace shmpool {
namespace {

// Constant-initialised, because registrations are made before main in no particular order, and undone after it.
constinit std::mutex registry_mutex;
constinit detail::exception_registration* first_registration = nullptr;

/// With its name as it was when it was registered: name() is code of the user's, which must not run under the lock.
struct registered_category {
  std::string name;
  const std::error_category* category;
};

std::vector<registered_category>& registered_categories() {
  static detail::immortal<std::vector<registered_category>> categories;
  return categories.value;
}

}  // namespace

void register_error_category(const std::error_category& category) {
  registered_category added{category.name(), &category};
  const std::lock_guard lock(registry_mutex);
  auto& categories = registered_categories();
  const auto same =
      std::find_if(categories.begin(), categories.end(), [&](const auto& known) { return known.name == added.name; });
  if (same == categories.end()) {
    categories.push_back(std::move(added));
  } else {
    same->category = &category;
  }
}

namespace detail {

const std::error_category* find_error_category(std::string_view name) {
  const std::array<const std::error_category*, 5> known = {&std::generic_category(), &std::system_category(),
                                                           &std::iostream_category(), &std::future_category(),
                                                           &shmpool_category()};
  for (const auto* category : known) {
    if (category->name() == name) return category;
  }
  const std::lock_guard lock(registry_mutex);
  for (const auto& registered : registered_categories()) {
    if (registered.name == name) return registered.category;
  }
  return nullptr;
}

exception_registration::exception_registration(const exception_carrier& carrier) noexcept : carrier_(carrier) {
  const std::lock_guard lock(registry_mutex);
  next_ = first_registration;
  if (next_ != nullptr) next_->previous_ = this;
  first_registration = this;
}

exception_registration::~exception_registration() {
  const std::lock_guard lock(registry_mutex);
  if (next_ != nullptr) next_->previous_ = previous_;
  if (previous_ != nullptr) {
    previous_->next_ = next_;
  } else {
    first_registration = next_;
  }
}

std::optional<exception_carrier> exception_registration::find(std::string_view type_key) {
  const std::lock_guard lock(registry_mutex);
  std::optional<exception_carrier> found;
  for (const auto* entry = first_registration; entry != nullptr; entry = entry->next_) {
    if (entry->carrier_.type->name() != type_key) continue;
    if (found && *found->type != *entry->carrier_.type) return std::nullopt;
    found = entry->carrier_;
  }
  return found;
}

}  // namespace detail
}  // namespace shmpool
