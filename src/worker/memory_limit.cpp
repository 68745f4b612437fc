#include "worker/memory_limit.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <charconv>

namespace shmpool::worker {

namespace {

constexpr std::uint64_t long_run_ns = 1'000'000;
constexpr std::uint64_t look_interval_ns = 10'000'000;

}  // namespace

memory_limit::memory_limit(std::uint64_t bytes) noexcept
    : bytes_(bytes),
      page_size_(static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))),
      statm_(::open("/proc/self/statm", O_RDONLY | O_CLOEXEC)) {
}

std::uint64_t memory_limit::exceeded_by(std::uint64_t now_ns, std::uint64_t run_ns) noexcept {
  if (told_ || (run_ns < long_run_ns && now_ns - last_look_ns_ < look_interval_ns)) return 0;
  last_look_ns_ = now_ns;
  std::array<char, 128> text{};
  const ssize_t size = ::pread(statm_.get(), text.data(), text.size(), 0);
  if (size <= 0) return 0;
  // "size resident shared ...", in pages; "shared" counts file pages and shared memory.
  std::uint64_t field[3] = {};
  const char* at = text.data();
  const char* const end = at + size;
  for (std::uint64_t& each : field) {
    const auto [next, error] = std::from_chars(at, end, each);
    if (error != std::errc{}) return 0;
    at = next == end ? next : next + 1;
  }
  if (field[1] < field[2] || (field[1] - field[2]) * page_size_ <= bytes_) return 0;
  told_ = true;
  return (field[1] - field[2]) * page_size_;
}

}  // namespace shmpool::worker
