// expect: take array<const T> to read, array<T>& to write, or array<T> by value to own
#include <shmpool/detail/codec/callable.hpp>

double look(const shmpool::array<double>& x) {
  return x[0];
}

int main() {
  shmpool::detail::require_call<decltype(look)&, shmpool::array<double>&>();
}
