#include "pool/killer_table.hpp"

#include <algorithm>
#include <new>

namespace shmpool::pool {

bool killer_table::call::is(std::uint32_t other, std::span<const std::byte> its_arguments) const noexcept {
  return function == other && std::ranges::equal(arguments, its_arguments);
}

void killer_table::killed(std::uint32_t function, std::span<const std::byte> arguments, time_point now) noexcept {
  if (limit_ == 0 || arguments.size() > most_bytes) return;
  std::erase_if(calls_, [&](const call& each) { return now - each.last >= memory; });
  auto found = std::ranges::find_if(calls_, [&](const call& each) { return each.is(function, arguments); });
  if (found == calls_.end()) {
    try {
      call made{function, {arguments.begin(), arguments.end()}};
      calls_.reserve(most_calls);
      if (calls_.size() == most_calls) calls_.erase(std::ranges::min_element(calls_, {}, &call::last));
      found = calls_.insert(calls_.end(), std::move(made));
    } catch (const std::bad_alloc&) {
      return;
    }
  }
  ++found->kills;
  found->last = now;
}

void killer_table::forget(std::uint32_t function, std::span<const std::byte> arguments) noexcept {
  std::erase_if(calls_, [&](const call& each) { return each.is(function, arguments); });
}

unsigned killer_table::look_up(std::uint32_t function, std::span<const std::byte> arguments,
                               time_point now) const noexcept {
  for (const call& each : calls_) {
    if (each.is(function, arguments)) return each.kills >= limit_ && now - each.last < memory ? each.kills : 0;
  }
  return 0;
}

}  // namespace shmpool::pool
