// The registry of error categories. Thread safety: one mutex; no foreign code runs while it is held.
#include <shmpool/error.hpp>
#include <shmpool/register_error_category.hpp>

#include <array>
#include <future>
#include <ios>
#include <map>
#include <memory>
#include <string>

#include "process/mutex.hpp"
#include "process/no_destructor.hpp"

namespace shmpool {
namespace {

// Constant-initialised, because registrations are made before main in no particular order, and undone after it.
constinit mutex registry_mutex;
constinit detail::category_registration* first_registration SHMPOOL_GUARDED_BY(registry_mutex) = nullptr;
constinit detail::category_registration* last_registration SHMPOOL_GUARDED_BY(registry_mutex) = nullptr;

}  // namespace

void register_error_category(const std::error_category& category) {
  static constinit mutex chosen_mutex;
  static no_destructor<std::map<std::string, std::unique_ptr<detail::category_registration>>> chosen;
  auto registration = std::make_unique<detail::category_registration>(category, detail::category_rank::chosen);
  const std::string name = category.name();  // user code, so called under no lock
  const mutex_lock lock(chosen_mutex);
  chosen.value[name].swap(registration);  // the one that it replaces goes now that this one is there
}

namespace detail {

category_registration::category_registration(const std::type_info& kind, const void* category, const char* name,
                                             category_rank rank) noexcept
    : kind_(&kind), category_(category), name_(name), rank_(rank) {
  const mutex_lock lock(registry_mutex);
  previous_ = last_registration;
  (previous_ != nullptr ? previous_->next_ : first_registration) = this;
  last_registration = this;
}

category_registration::~category_registration() {
  const mutex_lock lock(registry_mutex);
  (next_ != nullptr ? next_->previous_ : last_registration) = previous_;
  (previous_ != nullptr ? previous_->next_ : first_registration) = next_;
}

const void* category_registration::find(const std::type_info& kind, std::string_view name) noexcept {
  const mutex_lock lock(registry_mutex);
  const category_registration* best = nullptr;
  for (const auto* entry = first_registration; entry != nullptr; entry = entry->next_) {
    if (name != entry->name_ || *entry->kind_ != kind) continue;
    const bool replaces = entry->rank_ == category_rank::chosen;  // the last one, others are kept in their order
    if (best == nullptr || entry->rank_ < best->rank_ || replaces) best = entry;
  }
  return best != nullptr ? best->category_ : nullptr;
}

const std::error_category& error_category_named(std::string_view name) noexcept {
  const std::array<const std::error_category*, 5> known = {&std::generic_category(), &std::system_category(),
                                                           &std::iostream_category(), &std::future_category(),
                                                           &shmpool_category()};
  for (const auto* category : known) {
    if (category->name() == name) return *category;
  }
  const void* found = category_registration::find(typeid(std::error_category), name);
  return found != nullptr ? *static_cast<const std::error_category*>(found) : foreign<std::error_category>();
}

}  // namespace detail
}  // namespace shmpool
