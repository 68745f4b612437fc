// Takes exceptions apart by rethrowing them and looking at what the handlers catch, and puts them together again.
// Thread safety: any thread; the registries that it asks lock themselves.
#include "errors/exception_record.hpp"

#include <shmpool/register_exception.hpp>

#include <cxxabi.h>

#include <algorithm>
#include <concepts>
#include <cstring>
#include <type_traits>

#include "errors/standard_exceptions.hpp"
#include "errors/type_names.hpp"

namespace shmpool::detail {
namespace {

std::string bounded(const char* text) {
  return {text, ::strnlen(text, max_exception_text)};
}

std::uint8_t nearest_standard_kind(const std::exception& thrown) noexcept {
  std::uint8_t kind = kind_exception;
  visit_standard_exceptions([&]<class S>() {
    if constexpr (!std::is_same_v<typename S::type, std::exception>) {
      if (dynamic_cast<const typename S::type*>(&thrown) == nullptr) return false;
      kind = S::kind;
    }
    return true;
  });
  return kind;
}

// An exception that is no std::exception arrives as the most general type that can hold a text.
constexpr std::uint8_t kind_of_other_types = kind_runtime_error;

void take_code(const std::error_code& code, exception_record& record) {
  record.code = named_error_code{code.value(), bounded(code.category().name())};
}

// Records the parts that the standard types show.
void look_at_standard_parts(const std::exception_ptr& error, exception_record& record) {
  record.kind = kind_of_other_types;
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& thrown) {
    record.kind = nearest_standard_kind(thrown);
    if (const char* text = thrown.what()) record.text = bounded(text);
    if (const auto* system = dynamic_cast<const std::system_error*>(&thrown)) take_code(system->code(), record);
    if (const auto* future = dynamic_cast<const std::future_error*>(&thrown)) take_code(future->code(), record);
    if (const auto* files = dynamic_cast<const std::filesystem::filesystem_error*>(&thrown)) {
      record.path1 = files->path1().native();
      record.path2 = files->path2().native();
    }
  } catch (const std::string& text) {
    record.text = text;
  } catch (const char* text) {
    if (text != nullptr) record.text = bounded(text);
  } catch (...) {
    // The type name is all there is to say.
  }
}

const std::type_info* type_of(const std::exception_ptr& error) noexcept {
  try {
    std::rethrow_exception(error);
  } catch (...) {
    return abi::__cxa_current_exception_type();
  }
}

// A remote_error here means that the task got it from a pool of its own: what that pool's worker said still holds.
void look_at_remote_parts(const std::exception_ptr& error, exception_record& record) {
  try {
    std::rethrow_exception(error);
  } catch (const remote_error& origin) {
    record.type_name = origin.type_name();
    record.text = origin.message();
    record.causes = origin.causes();
    if (!record.code && origin.code()) take_code(origin.code(), record);
  } catch (...) {
  }
}

std::exception_ptr nested_in(const std::exception_ptr& error) noexcept {
  try {
    std::rethrow_exception(error);
  } catch (const std::nested_exception& thrown) {
    return thrown.nested_ptr();
  } catch (...) {
    return nullptr;
  }
}

void save_registered_state(const std::exception_ptr& error, const std::type_info& type, exception_record& record) {
  for (const auto* candidate : lineage(type)) {
    const auto carrier = exception_registration::find(candidate->name());
    if (!carrier || *carrier->type != *candidate) continue;
    registered_state state;
    state.type_key = candidate->name();
    try {
      if (!carrier->save(error, state.bytes, record.text)) continue;
    } catch (...) {
      continue;  // its own code failed on it; a base may still carry it, and the text does in any case
    }
    if (state.bytes.size() > max_exception_state || state.type_key.size() > max_exception_text) continue;
    record.state = std::move(state);
    return;
  }
}

void look_at(const std::exception_ptr& error, exception_record& record) {
  const auto* type = type_of(error);
  record.type_name = type != nullptr ? readable_name(*type) : "unknown";
  look_at_standard_parts(error, record);
  look_at_remote_parts(error, record);
  if (type != nullptr) save_registered_state(error, *type, record);
  if (record.text.empty()) record.text = "exception of type " + record.type_name;
}

template <class E>
E standard_part(const exception_record& record, const std::error_code& code) {
  if constexpr (std::is_same_v<E, std::filesystem::filesystem_error>) {
    return E(record.text, record.path1, record.path2, code);
  } else if constexpr (std::is_same_v<E, std::ios_base::failure>) {
    return E(record.text, code);
  } else if constexpr (std::is_same_v<E, std::system_error>) {
    return E(code, record.text);
  } else if constexpr (std::is_same_v<E, std::future_error>) {
    return E(static_cast<std::future_errc>(code.value()));
  } else if constexpr (std::is_constructible_v<E, const std::string&>) {
    return E(record.text);
  } else {
    return E();
  }
}

std::error_code revive_code(const named_error_code& code) {
  return {code.value, error_category_named(code.category)};
}

}  // namespace

std::uint8_t nearest_standard_kind(const std::exception_ptr& error) noexcept {
  if (error == nullptr) return kind_exception;
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& thrown) {
    return nearest_standard_kind(thrown);
  } catch (...) {
    return kind_of_other_types;
  }
}

exception_record describe_exception(const std::exception_ptr& error) {
  exception_record record;
  if (error == nullptr) {
    record.kind = kind_exception;
    record.type_name = readable_name(typeid(std::exception));
    record.text = "the task failed without an exception";
    return record;
  }
  look_at(error, record);
  for (auto cause = nested_in(error); cause != nullptr; cause = nested_in(cause)) {
    if (record.causes.size() >= max_exception_causes) break;
    exception_record link;
    look_at(cause, link);
    record.causes.push_back({std::move(link.type_name), std::move(link.text)});
    record.causes.insert(record.causes.end(), link.causes.begin(), link.causes.end());
  }
  if (record.causes.size() > max_exception_causes) record.causes.resize(max_exception_causes);
  return record;
}

bool is_standard_kind(std::uint8_t kind) noexcept {
  return visit_standard_exceptions([&]<class S>() { return S::kind == kind; });
}

exception_record bare_record(std::uint8_t kind) {
  exception_record record;
  record.kind = kind;
  visit_standard_exceptions([&]<class S>() {
    if (S::kind != kind) return false;
    record.type_name = readable_name(typeid(typename S::type));
    return true;
  });
  record.text = record.type_name + ", which the worker had no memory left to describe";
  return record;
}

std::exception_ptr revive_exception_record(const exception_record& record, pid_t worker_pid) {
  const auto code = record.code ? revive_code(*record.code) : std::error_code();
  const remote_error origin({record.type_name, record.text, code, record.causes, worker_pid});
  if (record.state) {
    if (const auto carrier = exception_registration::find(record.state->type_key)) {
      try {
        return carrier->revive(record.state->bytes, origin);
      } catch (...) {
        // The type refuses these bytes: its standard base still tells what happened.
      }
    }
  }
  std::exception_ptr revived;
  visit_standard_exceptions([&]<class S>() {
    using type = typename S::type;
    if (S::kind != record.kind) return false;
    revived = std::make_exception_ptr(remote_exception<type>(standard_part<type>(record, code), origin));
    return true;
  });
  return revived;
}

}  // namespace shmpool::detail
