// The registry of an application's own exception types.
// Thread safety: one mutex; no foreign code runs while it is held.
#include "process/mutex.hpp"

#include <shmpool/register_exception.hpp>

namespace shmpool {
namespace {

// Constant-initialised, because registrations are made before main in no particular order, and undone after it.
constinit mutex registry_mutex;
constinit detail::exception_registration* first_registration SHMPOOL_GUARDED_BY(registry_mutex) = nullptr;

}  // namespace

namespace detail {

exception_registration::exception_registration(const exception_carrier& carrier) noexcept : carrier_(carrier) {
  const mutex_lock lock(registry_mutex);
  next_ = first_registration;
  if (next_ != nullptr) next_->previous_ = this;
  first_registration = this;
}

exception_registration::~exception_registration() {
  const mutex_lock lock(registry_mutex);
  if (next_ != nullptr) next_->previous_ = previous_;
  if (previous_ != nullptr) {
    previous_->next_ = next_;
  } else {
    first_registration = next_;
  }
}

std::optional<exception_carrier> exception_registration::find(std::string_view type_key) {
  const mutex_lock lock(registry_mutex);
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
