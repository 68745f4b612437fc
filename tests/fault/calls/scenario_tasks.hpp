// What the workers run in the scenario, and the numbers that go with it.
#pragma once

#include <shmpool.hpp>

#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace shmpool::testing::scenario_tasks {

inline constexpr std::size_t small_count = 100, large_count = 8 * 1024, huge_count = 3 * 128 * 1024;  // the last: 3 MiB

inline double pattern(std::size_t i, double seed) {
  return seed + 0.5 * static_cast<double>(i % 1000);
}

inline int add(int a, int b) {
  return a + b;
}

inline array<double> twice(array<const double> values) {
  auto result = make_array<double>(values.size());
  for (std::size_t i = 0; i != values.size(); ++i) result[i] = 2 * values[i];
  return result;
}

inline void increment(array<double>& values) {
  for (double& each : values) each += 1;
}

inline array<double> negated(array<double> values) {
  for (double& each : values) each = -each;
  return values;
}

inline double sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

inline std::string repeat(const std::string& text, int times) {
  std::string result;
  for (int i = 0; i != times; ++i) result += text;
  return result;
}

inline int square(int x) {
  return x * x;
}

inline void refuse() {
  throw std::domain_error("as it should");
}

inline int until_asked() {
  while (!this_task::stop_requested()) {
    this_task::report_progress(0.5);
    ::usleep(1000);
  }
  return 7;
}

inline void for_ever() {
  for (;;) {
    this_task::report_progress(0.5);
    ::usleep(1000);
  }
}

inline void leave() {
  ::_exit(3);
}

inline void kill_server() {
  while (::kill(::getppid(), SIGKILL) != 0) {
  }
  for (;;) ::usleep(1000);
}

}  // namespace shmpool::testing::scenario_tasks
