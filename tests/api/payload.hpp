// What tests that send arrays through a pool share: contents that show every wrong byte, digests that a worker can
// return to prove what it saw, and a pool whose memory is accounted for when the test is over.
#pragma once

#include "pool_fixture.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace shmpool::testing {

/// Lengths of arrays on both sides of pool_options::inline_bytes, whatever their element.
inline constexpr std::size_t few = 10, many = 1'000'000;
inline constexpr std::array<std::size_t, 2> lengths{few, many};

/// All bits of the number `i` mixed: no two elements are alike, and no byte is at home in another's place.
constexpr std::uint64_t mixed(std::uint64_t i) noexcept {
  std::uint64_t z = (i + 1) * 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

/// Element `i` of the pattern number `seed`. Floating-point values are exact and finite.
template <class T>
T pattern(std::size_t i, std::uint64_t seed = 0) noexcept {
  const std::uint64_t bits = mixed(i + (seed << 32));
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(static_cast<std::int64_t>(bits >> 41)) - T(4194304);
  } else if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(bits);
  } else {
    std::array<std::byte, sizeof(T)> bytes;
    for (std::size_t at = 0; at != sizeof(T); ++at) bytes[at] = static_cast<std::byte>(mixed(bits + at));
    return std::bit_cast<T>(bytes);
  }
}

template <class Range>
void fill_pattern(Range&& range, std::uint64_t seed = 0) {
  std::size_t i = 0;
  for (auto& element : range) element = pattern<std::remove_cvref_t<decltype(element)>>(i++, seed);
}

/// A hash of the bytes of the elements, in order.
template <class Range>
std::uint64_t digest(const Range& range) noexcept {
  const auto bytes = std::as_bytes(std::span(std::ranges::data(range), std::ranges::size(range)));
  std::uint64_t hash = bytes.size();
  for (std::size_t at = 0; at < bytes.size(); at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, bytes.size() - at < 8 ? bytes.size() - at : 8);
    hash = std::rotl((hash ^ word) * 0x9e3779b97f4a7c15U, 29);
  }
  return hash;
}

/// An array in the pool's memory, filled with a pattern.
template <class T, class... Extents>
auto make_pattern(process_pool& pool, std::uint64_t seed, Extents... extents) {
  auto made = pool.make_array<T>(extents...);
  fill_pattern(made, seed);
  return made;
}

/// Names under /dev/shm of the segments of the pool that owns `segment`; none for a memfd's.
inline std::set<std::string> names_of_pool(const shm_handle& segment) {
  std::set<std::string> names;
  const std::string name = segment.name();
  if (name.empty()) return names;
  const std::string prefix = name.substr(0, name.rfind('.') + 1);
  for (const auto& file : std::filesystem::directory_iterator("/dev/shm")) {
    std::string found = file.path().filename();
    if (found.starts_with(prefix) && !found.ends_with(".lock")) names.insert(std::move(found));
  }
  return names;
}

/// options() for tests that count arrays by pool_stats::live_segments.
inline pool_options with_a_file_for_each_array() {
  pool_options chosen = options();
  chosen.arena_bytes = 0;
  return chosen;
}

/// The backing that options() asks for leaves names under /dev/shm.
inline bool named_memory() {
  return options().backing != backing::memfd;
}

/// Runs the coroutine `body(pool)` with a pool and, if that ends well, shuts the pool down; then nothing may hold any
/// of its memory. Throws what the body throws.
template <class Body>
void with_pool(const pool_options& how, Body body) {
  const watchdog guard(std::chrono::seconds(180));  // over the making and the end of the pool, too
  asio::io_context io;
  process_pool pool(io, how);
  run(io, body(pool));
  run(io, [](process_pool& closing) -> asio::awaitable<void> { co_await closing.shutdown(); }(pool));
  const pool_stats left = pool.stats();
  EXPECT_EQ(left.live_segments, 0u);
  EXPECT_EQ(left.live_bytes, 0u);
  EXPECT_EQ(left.cached_segments, 0u);
  EXPECT_EQ(left.workers, 0u);
  EXPECT_EQ(left.queued + left.assigned, 0u);
}

template <class Body>
void with_pool(Body body) {
  with_pool(options(), std::move(body));
}

inline pool_options one_worker() {
  pool_options result = options();
  result.workers = 1;
  return result;
}

}  // namespace shmpool::testing
