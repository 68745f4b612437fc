// Everything that can be wrong with a call at compile time, and the compiler's message for each.
//
// Thread safety: nothing happens at run time.
#pragma once

#include <cstdint>

namespace shmpool::detail {

enum class verdict : std::uint8_t {
  ok,
  // Parameters that no argument fits.
  const_array_reference,
  lost_changes,
  pointer_parameter,
  view_parameter,
  immovable_parameter,
  // Values, alone and nested in others.
  address_in_value,
  category_in_value,
  // Arguments that do not fit their parameter.
  mutable_span_needs_array,
  array_lvalue_needed,
  array_needed,
  not_readable,
  not_convertible,
  // Results.
  reference_result,
  pointer_result,
  view_result,
  result_without_default,
  // Callables.
  member_pointer,
  stateful_callable,
  not_a_function,
  wrong_number_of_arguments,
  not_invocable,
};

/// Does not compile unless `Verdict` is ok; `Types` are the types concerned, for the compiler to name.
template <verdict Verdict, class... Types>
consteval void require_ok() {
  using enum verdict;
  static_assert(Verdict != const_array_reference,
                "shmpool: a const array<T>& parameter does not say how the array travels: take array<const T> to read, "
                "array<T>& to write, or array<T> by value to own");
  static_assert(
      Verdict != lost_changes,
      "shmpool: a parameter that is a non-const reference is written in another process and its changes would "
      "be lost: take it by value and return it (arrays are written in place through array<T>& or std::span<T>)");
  static_assert(Verdict != pointer_parameter,
                "shmpool: a pointer means nothing in another process: take a value, std::string, std::string_view, "
                "std::span or shmpool::array instead (and give generic functions such arguments)");
  static_assert(Verdict != view_parameter,
                "shmpool: this parameter only refers to memory, which the worker does not have: take the value itself, "
                "std::span or shmpool::array");
  static_assert(Verdict != immovable_parameter,
                "shmpool: this parameter's type cannot be moved (or is abstract), so no worker can make one from a "
                "message: take it by std::unique_ptr or take its parts");
  static_assert(Verdict != address_in_value,
                "shmpool: a value holds an address (the last type that is named here), which means nothing in another "
                "process: hold std::string, std::vector or shmpool::array instead, or give the type that holds it a "
                "serialize()");
  static_assert(Verdict != category_in_value,
                "shmpool: a value of plain bytes holds an error code, which points to its category: give the type that "
                "holds it a serialize(), and the code travels by its category's name");
  static_assert(Verdict != mutable_span_needs_array,
                "shmpool: a std::span<T> parameter is written by the task in shared memory: pass an array made with "
                "pool.make_array<T>(), or take std::span<const T>");
  static_assert(
      Verdict != array_lvalue_needed,
      "shmpool: an array<T>& parameter is written by the task in shared memory: pass an lvalue array<T> of the "
      "same rank, made with pool.make_array<T>()");
  static_assert(Verdict != array_needed,
                "shmpool: an array<T> parameter by value takes an array<T> of the same element type and rank; take "
                "array<const T> or std::span<const T> to read any contiguous range");
  static_assert(Verdict != not_readable,
                "shmpool: this parameter reads elements: pass an array of the same element type (and rank), or a "
                "contiguous range such as a std::vector of exactly that type");
  static_assert(Verdict != not_convertible, "shmpool: an argument cannot be converted to its parameter's type");
  static_assert(Verdict != reference_result,
                "shmpool: a task cannot return a reference to something in another process: return it by value");
  static_assert(Verdict != pointer_result,
                "shmpool: a task cannot return a pointer to something in another process: return a value, a "
                "std::unique_ptr or a shmpool::array");
  static_assert(Verdict != view_result,
                "shmpool: a task cannot return a view of memory in another process: return std::string, std::vector or "
                "shmpool::array");
  static_assert(Verdict != result_without_default,
                "shmpool: a task's result must be default constructible and movable: return std::optional or "
                "std::unique_ptr of it");
  static_assert(
      Verdict != member_pointer,
      "shmpool: a pointer to a member cannot be sent: pass a captureless lambda that calls it, and the object "
      "as an argument");
  static_assert(
      Verdict != stateful_callable,
      "shmpool: a lambda with captures cannot be sent to another process: pass what it captures as arguments, "
      "or wrap it with shmpool::by_value if a byte-wise copy is really meant");
  static_assert(Verdict != not_a_function, "shmpool: the first argument is not a function or function object");
  static_assert(Verdict != wrong_number_of_arguments,
                "shmpool: the function takes another number of arguments than were passed");
  static_assert(
      Verdict != not_invocable,
      "shmpool: the function object cannot be called with these arguments; arrays reach a generic function as "
      "array<const T>, everything else by value");
}

}  // namespace shmpool::detail
