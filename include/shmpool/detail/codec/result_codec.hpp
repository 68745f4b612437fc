// How the result of a task travels: arrays and vectors of plain elements through shared memory, other types by value.
//
// Thread safety: as packer and unpacker.
#pragma once

#include <shmpool/detail/codec/parameter_codec.hpp>

#include <type_traits>

namespace shmpool::detail {

template <class R>
struct result_codec {
  using value = std::remove_cv_t<std::remove_reference_t<R>>;

  static constexpr verdict judge() {
    if constexpr (std::is_void_v<R>) {
      return verdict::ok;
    } else if constexpr (std::is_reference_v<R>) {
      return verdict::reference_result;
    } else if constexpr (std::is_pointer_v<value> || std::is_member_pointer_v<value>) {
      return verdict::pointer_result;
    } else if constexpr (refers_to_memory<value>) {
      return verdict::view_result;
    } else if constexpr (!std::is_default_constructible_v<value> || !std::is_move_constructible_v<value>) {
      return verdict::result_without_default;
    } else {
      return judge_value<value>();
    }
  }

  /// `result` is the task's last reference to its arrays, so arrays that nobody else has are given away.
  static void put(packer& to, const value& result) {
    if constexpr (is_array<value>) {
      put_array(to, result, purpose_of(direction::result, std::is_const_v<typename value::element_type>));
    } else if constexpr (is_element_vector<value>) {
      put_elements(to, std::span<const typename value::value_type>(result));
    } else {
      put_value(to, result, direction::result);
    }
  }

  /// Throws protocol_violation unless the message holds one such result and nothing else.
  static value get(unpacker& from) {
    value result = [&] {
      if constexpr (is_array<value>) {
        return get_array<typename value::element_type, value::rank()>(from);
      } else if constexpr (is_element_vector<value>) {
        return get_vector<typename value::value_type>(from);
      } else {
        return get_value<value>(from);
      }
    }();
    if (from.remaining() != 0) throw_protocol_violation("bytes behind the end of a result");
    return result;
  }
};

template <>
struct result_codec<void> {
  static constexpr verdict judge() { return verdict::ok; }
  static void get(unpacker& from) {
    if (from.remaining() != 0) throw_protocol_violation("bytes in the result of a function that returns nothing");
  }
};

}  // namespace shmpool::detail
