// A library that callables_test loads at run time, before or after a pool has started: it hands out pointers to its own
// functions, and submits its own callables to a pool of the program. Variants differ in PLUGIN_VALUE.
#include <shmpool.hpp>

#include <cstddef>
#include <stdexcept>
#include <string>

namespace {

int value_plus(int x) {
  return PLUGIN_VALUE + x;
}

shmpool::array<double> scaled(shmpool::array<const double> x) {
  auto y = shmpool::make_array<double>(x.size());
  for (std::size_t i = 0; i != x.size(); ++i) y[i] = PLUGIN_VALUE * x[i];
  return y;
}

/// What only this library knows: it arrives as its nearest standard base.
struct plugin_error : std::range_error {
  using std::range_error::range_error;
};

}  // namespace

extern "C" {

int (*plugin_value_plus())(int) {
  return &value_plus;
}

shmpool::array<double> (*plugin_scaled())(shmpool::array<const double>) {
  return &scaled;
}

void (*plugin_fail())() {
  return +[]() { throw plugin_error("plugin " + std::to_string(PLUGIN_VALUE)); };
}

/// Submits a lambda that nobody else has seen, with the trampoline for it.
void plugin_submit(shmpool::process_pool& pool, int x, void (*done)(void*, int), void* context) {
  pool.submit([](int y, const std::string& text) { return value_plus(y) * 10 + static_cast<int>(text.size()); }, x,
              "four", [done, context](std::exception_ptr error, int result) { done(context, error ? -1 : result); });
}
}
