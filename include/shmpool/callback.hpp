// callback: a function of the user's that a pool may call, as a member of the options of a pool or a task.
// docs/adr/0012-option-types.md says why it is not std::function.
//
// Thread safety: distinct objects: safe, also those that share a function.
#pragma once

#include <atomic>
#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

// Where an expression contains a co_await, g++ before 13 initialises members of an aggregate twice: the bytes of a
// temporary become the member, and both are destroyed. The captures of a lambda are such members, too.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#define SHMPOOL_MEMBERS_MAY_BE_BYTES 1
#else
#define SHMPOOL_MEMBERS_MAY_BE_BYTES 0
#endif

namespace shmpool {
namespace detail {

#if SHMPOOL_MEMBERS_MAY_BE_BYTES
/// Whether F is the type of a lambda: GCC writes such a type as `scope::<lambda(parameters)>`.
template <class F>
consteval bool is_closure() {
  std::string_view text = __PRETTY_FUNCTION__;
  text = text.substr(0, text.find_last_of('>'));
  std::size_t at = text.size();
  for (int open = 1; open != 0 && at != 0;) {
    --at;
    if (text[at] == '>') ++open;
    if (text[at] == '<') --open;
  }
  return text.substr(at).starts_with("<lambda");
}
#endif

/// A function with a count of its owners; the last owner to release the function destroys it.
template <class... Args>
class shared_function {
 public:
  /// `first`: the callback that this function is made for.
  explicit shared_function(const void* first) noexcept : first_(first) {}
  shared_function(const shared_function&) = delete;
  shared_function& operator=(const shared_function&) = delete;

  virtual void call(Args... args) = 0;

  void acquire() noexcept { shares_.fetch_add(1, std::memory_order_relaxed); }
  void release(const void* by) noexcept {
    if (first_.load(std::memory_order_relaxed) == by) first_.store(nullptr, std::memory_order_relaxed);
    if (shares_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  /// Call when a share was taken from a copy of the bytes of `owner`, which lives: the expression that made both goes
  /// on.
  void taken_from_bytes_of(const void* owner) noexcept {
    if (first_.load(std::memory_order_relaxed) != owner) return;
    first_.store(nullptr, std::memory_order_relaxed);
    mend_origin();
  }

 protected:
  virtual ~shared_function() = default;
  /// Makes the lambda that this was copied from safe to destroy, where its captures are bytes of temporaries.
  virtual void mend_origin() noexcept {}

 private:
  std::atomic<std::size_t> shares_{1};
  std::atomic<const void*> first_;
};

template <class F, class... Args>
class function_holder final : public shared_function<Args...> {
 public:
  template <class From>
  function_holder(const void* first, From&& from) : shared_function<Args...>(first), function_(readable<From>(from)) {
#if SHMPOOL_MEMBERS_MAY_BE_BYTES
    if constexpr (!std::is_trivially_copyable_v<F> && is_closure<F>() && std::is_same_v<From, F>)
      origin_ = std::addressof(from);
#endif
  }

  void call(Args... args) override { std::invoke(function_, std::forward<Args>(args)...); }

#if SHMPOOL_MEMBERS_MAY_BE_BYTES
  void mend_origin() noexcept override {
    // The lambda's captures belong to temporaries, which destroy them. So a copy is constructed over the lambda without
    // destroying it, and the copy is destroyed in its place.
    if (origin_) ::new (static_cast<void*>(origin_)) F(std::as_const(function_));
  }
#endif

 private:
  /// The bytes of a temporary can be copied from as long as the temporary lives. Moving from them would take resources
  /// that the temporary destroys.
  template <class From>
  static decltype(auto) readable(std::remove_reference_t<From>& from) noexcept {
#if SHMPOOL_MEMBERS_MAY_BE_BYTES
    if constexpr (!std::is_trivially_copyable_v<F> && is_closure<F>()) return std::as_const(from);
    else return static_cast<From&&>(from);
#else
    return static_cast<From&&>(from);
#endif
  }

  F function_;
#if SHMPOOL_MEMBERS_MAY_BE_BYTES
  F* origin_ = nullptr;
#endif
};

template <class F>
bool is_null(const F& function) noexcept {
  if constexpr (std::is_pointer_v<F> || std::is_member_pointer_v<F>) return function == nullptr;
  else return false;
}
template <class Signature>
bool is_null(const std::function<Signature>& function) noexcept {
  return !function;
}

}  // namespace detail

template <class Signature>
class callback;

/// Owns a function object, or none. Copies share the function object, so copying a callback runs no user code, takes no
/// memory and does not throw; the last copy destroys the function object. Made from anything that
/// std::function<void(Args...)> can be made from.
///
/// A callback stores its own address, so that a bytewise copy at another address (see above) is told from an owner.
template <class... Args>
class callback<void(Args...)> {
 public:
  callback() noexcept = default;
  callback(std::nullptr_t) noexcept {}

  /// Empty if `function` is a null pointer or an empty std::function.
  template <class F>
    requires(!std::same_as<std::remove_cvref_t<F>, callback> && std::copy_constructible<std::decay_t<F>> &&
             std::invocable<std::decay_t<F>&, Args...>)
  callback(F&& function) {
    if (detail::is_null(static_cast<const std::decay_t<F>&>(function))) return;
    function_ = new detail::function_holder<std::decay_t<F>, Args...>(this, std::forward<F>(function));
  }

  callback(const callback& other) noexcept : function_(other.function_) {
    if (!function_) return;
    function_->acquire();
    if (!other.owns()) function_->taken_from_bytes_of(other.self_);
  }
  callback(callback&& other) noexcept : callback(std::as_const(other)) { other.reset(); }
  callback& operator=(const callback& other) noexcept {  // NOLINT(bugprone-unhandled-self-assignment): a copy
    callback copy(other);
    std::swap(function_, copy.function_);
    return *this;
  }
  callback& operator=(callback&& other) noexcept {
    callback moved(std::move(other));
    std::swap(function_, moved.function_);
    return *this;
  }
  ~callback() { reset(); }

  explicit operator bool() const noexcept { return function_ != nullptr; }
  /// Calls the function; there must be one.
  void operator()(Args... args) const { function_->call(std::forward<Args>(args)...); }

 private:
  bool owns() const noexcept { return self_ == this; }

  void reset() noexcept {
    detail::shared_function<Args...>* const given_up = std::exchange(function_, nullptr);
    if (given_up && owns()) given_up->release(this);
  }

  detail::shared_function<Args...>* function_ = nullptr;
  const callback* self_ = this;
};

}  // namespace shmpool
