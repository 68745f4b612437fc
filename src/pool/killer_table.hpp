// Calls that have killed workers, for pool_options::quarantine_call_after: a function's number with the bytes of its
// arguments. It keeps the bytes and no digest, so that no call is refused because its digest equals another call's.
//
// Thread safety: none; the engine's lock guards it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace shmpool::pool {

class killer_table {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  static constexpr std::size_t most_calls = 64;
  static constexpr std::size_t most_bytes = std::size_t{64} * 1024;
  static constexpr auto memory = std::chrono::minutes{10};

  /// `limit`: how many workers a call may kill before it is refused; 0: no call is remembered.
  explicit killer_table(unsigned limit) noexcept : limit_(limit) {}

  /// The call has killed a worker. A full table forgets the call whose last kill is the oldest. A call with more than
  /// most_bytes of arguments is not remembered, nor is any call when memory has run out.
  void killed(std::uint32_t function, std::span<const std::byte> arguments, time_point now) noexcept;
  /// The call has run to its end: something else killed its earlier workers.
  void ended(std::uint32_t function, std::span<const std::byte> arguments) noexcept {
    if (!calls_.empty()) forget(function, arguments);
  }
  /// How many workers the call has killed, if they are enough to refuse it; else 0.
  unsigned refuses(std::uint32_t function, std::span<const std::byte> arguments, time_point now) const noexcept {
    return calls_.empty() ? 0 : look_up(function, arguments, now);
  }

 private:
  struct call {
    std::uint32_t function = 0;
    std::vector<std::byte> arguments;
    unsigned kills = 0;
    time_point last{};
    bool is(std::uint32_t other, std::span<const std::byte> its_arguments) const noexcept;
  };

  void forget(std::uint32_t function, std::span<const std::byte> arguments) noexcept;
  unsigned look_up(std::uint32_t function, std::span<const std::byte> arguments, time_point now) const noexcept;

  unsigned limit_;
  std::vector<call> calls_;
};

}  // namespace shmpool::pool
