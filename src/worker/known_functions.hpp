// The functions that the parent has told a worker about: where their code is in this process, and how long they run.
//
// Thread safety: none; for the thread that runs the tasks.
#pragma once

#include <shmpool/detail/callable_ref.hpp>
#include <shmpool/detail/run_mean.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>

namespace shmpool::worker {

struct known_function {
  detail::trampoline entry = nullptr;
  const void* target = nullptr;
  std::string problem;  ///< why `entry` is null
  detail::recent_run_mean recent;
  detail::lasting_run_mean lasting;

  /// Replies that wait while further tasks run are sent at the latest before a task that may run longer than this.
  static constexpr std::chrono::microseconds reply_delay{50};
  /// Whether the next run may take so long that replies should not wait for it. Before the first run nobody knows.
  bool may_be_long() const noexcept { return std::max(recent.get(), lasting.get()) > reply_delay; }
  void ran(std::chrono::nanoseconds time) noexcept {
    recent.add(time);
    lasting.add(time);
  }
};

class known_functions {
 public:
  /// Looks for the code that the body of a `function` frame names, and loads its module if it has to. A function that
  /// cannot be found has a `problem`. Throws std::system_error(errc::protocol_violation).
  void define(std::uint64_t number, std::span<const std::byte> body);
  /// A number that was not defined has neither code nor problem.
  known_function& operator[](std::uint64_t number) { return all_[number]; }

 private:
  std::unordered_map<std::uint64_t, known_function> all_;
};

}  // namespace shmpool::worker
