// expect: shmpool: this parameter reads elements: pass an array of the same element type
#include <shmpool/detail/codec/callable.hpp>

#include <vector>

double first(std::span<const double> x) {
  return x[0];
}

int main() {
  shmpool::detail::require_call<decltype(first)&, std::vector<float>&>();
}
