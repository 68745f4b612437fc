// Several elements of a map in one task: the trampoline that runs them in the worker, and the layout of its result.
//
// Arguments: closure, `u32` count, then each element's argument. Result: per element `u8` 1, `u64` length and the
// result; or, for the element that threw, `u8` 0 and the exception's record, which ends it.
//
// Thread safety: as packer and unpacker.
#pragma once

#include <shmpool/detail/codec/callable.hpp>
#include <shmpool/detail/codec/exception_codec.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <type_traits>

namespace shmpool::detail {

template <class Callable, class R, class P>
struct map_chunk {
  static void run(invocation& call) {
    decltype(auto) function = callable_kind<Callable>::receive(call);
    const auto count = call.arguments.get<std::uint32_t>();
    for (std::uint32_t i = 0; i != count; ++i) {
      const std::size_t start = call.result.bytes().size();
      try {
        call.result.put(std::uint8_t{1});
        call.result.put(std::uint64_t{0});
        auto argument = parameter_codec<P>::get(call.arguments);
        if constexpr (std::is_void_v<R>) function(parameter_codec<P>::pass(argument));
        else result_codec<R>::put(call.result, function(parameter_codec<P>::pass(argument)));
        const std::uint64_t length = call.result.bytes().size() - start - 9;
        std::memcpy(call.result.bytes().data() + start + 1, &length, sizeof length);
      } catch (...) {
        const auto record = encode_exception(std::current_exception());
        call.result.bytes().resize(start);
        call.result.put(std::uint8_t{0});
        call.result.put_bytes(record.data(), record.size());
        return;
      }
    }
  }
};

template <class F, class Item>
struct map_call {
  using single = task_for<F, Item>;
  static_assert(std::tuple_size_v<typename single::parameters> == 1,
                "shmpool: map() needs a function of one parameter, the element of the range");
  using parameter = std::tuple_element_t<0, typename single::parameters>;
  using result_type = typename single::result_type;
  using callable = std::decay_t<F>;
  using declared_result = typename signature_for<callable, Item>::result;

  static callable_ref ref(const callable& function) noexcept {
    return {.entry = &map_chunk<callable, declared_result, parameter>::run,
            .target = callable_kind<callable>::target(function)};
  }
};

}  // namespace shmpool::detail
