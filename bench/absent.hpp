// How a contestant says that it cannot take part on this machine, which is no failure of the run.
#pragma once

#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>

namespace bench {

/// bench/sampling.py knows it by the beginning of its text.
class cannot_run : public std::runtime_error {
 public:
  explicit cannot_run(const std::string& why) : std::runtime_error("cannot run here: " + why) {}
};

/// Stands for a contestant whose library was not there when the build was configured.
///
/// Thread safety: there is never an object.
class absent {
 public:
  static constexpr std::size_t most_outstanding = 1;

  template <class... Args>
  explicit absent(const Args&...) {
    throw cannot_run("not installed when the build was configured");
  }
  template <class Batch>
  void operator()(Batch&) {}
  void* allocate(std::size_t) { return nullptr; }
  void deallocate(void*) {}
  bool send(std::span<const std::byte>) { return false; }
  std::size_t receive(std::span<std::byte>, bool) { return 0; }
  bool round_trip(std::span<const std::byte>, std::span<std::byte>) { return false; }
};

}  // namespace bench
