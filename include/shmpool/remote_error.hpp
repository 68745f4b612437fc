// remote_error: the parent catches an exception of a task with the type that was thrown, and with its origin attached.
//
// Thread safety: as a value's: copies are independent and share only text that never changes, so each thread may use
// its own. Only set_element changes an object, and map() calls it before anybody else sees the exception.
#pragma once

#include <shmpool/exception_traits.hpp>

#include <sys/types.h>

#include <concepts>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace shmpool {

/// The part that every exception from a worker has in common. It is deliberately no std::exception: the exception that
/// carries it already is one, and a second base would make `catch (const std::exception&)` ambiguous.
class remote_error {
 public:
  /// One link of a chain of nested exceptions (std::throw_with_nested).
  struct cause {
    std::string type;  ///< demangled name of its type
    std::string text;  ///< its what()
    friend bool operator==(const cause&, const cause&) = default;
  };

  struct details {
    std::string type_name;
    std::string message;
    std::error_code code;
    std::vector<cause> causes;
    pid_t worker_pid = 0;
  };
  explicit remote_error(details origin);

  // No move operations: a copy cannot throw, and there is no moved-from object without an origin for the accessors.
  remote_error(const remote_error&) noexcept = default;
  remote_error& operator=(const remote_error&) noexcept = default;
  virtual ~remote_error();

  /// Demangled name of the type that the task threw, which may be more derived than the one caught here.
  const std::string& type_name() const noexcept { return origin_->type_name; }
  /// The text of what() in the worker.
  const std::string& message() const noexcept { return origin_->message; }
  /// The code of a std::system_error or std::future_error, otherwise zero. A category that this process does not know
  /// (see register_error_category) is replaced by one named "shmpool.foreign" that keeps the value.
  std::error_code code() const noexcept { return origin_->code; }
  /// The nested exceptions, outermost first, at most 16.
  const std::vector<cause>& causes() const noexcept { return origin_->causes; }
  /// The process in which it was thrown.
  pid_t worker_pid() const noexcept { return origin_->worker_pid; }
  /// For map(): the index of the element at which it was thrown.
  std::optional<std::size_t> element() const noexcept { return element_; }
  void set_element(std::size_t index) noexcept { element_ = index; }

 private:
  std::shared_ptr<const details> origin_;
  std::optional<std::size_t> element_;
};

namespace detail {

// A type that was rebuilt from its text may have decorated the text a second time, and most standard types hold none. A
// type with traits of its own was rebuilt from its state and knows its text.
template <class E>
inline constexpr bool shows_worker_text =
    (std::derived_from<E, std::exception>)&&(std::is_base_of_v<carried_as_text, exception_traits<E>>);

}  // namespace detail

/// An `E` that was thrown in a worker. Catch it as `E`, as any base of `E`, or as remote_error.
template <class E, bool = detail::shows_worker_text<E>>
class remote_exception : public E, public remote_error {
 public:
  remote_exception(E thrown, const remote_error& origin) : E(std::move(thrown)), remote_error(origin) {}

  // E may have members of these names, too, which say the same; a call must not be ambiguous.
  using remote_error::causes;
  using remote_error::code;
  using remote_error::element;
  using remote_error::message;
  using remote_error::type_name;
  using remote_error::worker_pid;
};

template <class E>
class remote_exception<E, true> : public E, public remote_error {
 public:
  remote_exception(E thrown, const remote_error& origin) : E(std::move(thrown)), remote_error(origin) {}

  using remote_error::causes;
  using remote_error::code;
  using remote_error::element;
  using remote_error::message;
  using remote_error::type_name;
  using remote_error::worker_pid;

  const char* what() const noexcept override { return message().c_str(); }
};

}  // namespace shmpool
