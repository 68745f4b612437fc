// Calls that have killed workers, for pool_options::quarantine_call_after: a function's number with the bytes of its
// arguments. The bytes themselves, and no digest: nobody's call is refused for another one's.
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

  /// `limit`: how many workers a call may kill before it is refused; 0: nothing is remembered.
  explicit killer_table(unsigned limit) noexcept : limit_(limit) {}

  /// The call has killed a worker. Of many calls the one that did so longest ago is forgotten; one with more than
  /// most_bytes is not remembered, nor is any for want of memory.
  void killed(std::uint32_t function, std::span<const std::byte> arguments, time_point now) noexcept;
  /// The call has come to an end: what killed its worker before was something else.
  void ended(std::uint32_t function, std::span<const std::byte> arguments) noexcept {
    if (!calls_.empty()) forget(function, arguments);
  }
  /// How many workers the call has killed, if that is enough to refuse it; else 0.
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
