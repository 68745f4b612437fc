// expect: shmpool: an array<T> parameter by value takes an array<T> of the same element type and rank
#include <shmpool/detail/codec/callable.hpp>

#include <vector>

double own(shmpool::array<double> x) {
  return x[0];
}

int main() {
  shmpool::detail::require_call<decltype(own)&, std::vector<double>&>();
}
