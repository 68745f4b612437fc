// What is done with arrays, in a worker and in this process alike: the loops, and the tasks around them.
#pragma once

#include <shmpool.hpp>

#include <cstddef>
#include <map>
#include <numeric>
#include <span>
#include <string>

namespace bench {

// Not inlined, so that the tasks and the floors run the very same instructions.

[[gnu::noinline]] inline void add_one_to(std::span<const double> x, std::span<double> y) {
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] + 1;
}

[[gnu::noinline]] inline void add_one_in_place(std::span<double> x) {
  for (double& element : x) element += 1;
}

[[gnu::noinline]] inline double sum(std::span<const double> x) {
  return std::reduce(x.begin(), x.end());
}

// ---- The tasks.

using dictionary = std::map<std::string, shmpool::array<double>>;

inline shmpool::array<double> add_one(shmpool::array<const double> x) {
  auto y = shmpool::make_array<double>(x.size());
  add_one_to(x, y);
  return y;
}

inline dictionary add_one_to_each(const std::map<std::string, shmpool::array<const double>>& all) {
  dictionary result;
  for (const auto& [name, x] : all) result.emplace(name, add_one(x));
  return result;
}

}  // namespace bench
