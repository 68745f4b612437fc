// expect: shmpool: an array<T>& parameter is written by the task in shared memory: pass an lvalue array<T>
#include <shmpool/detail/codec/callable.hpp>

void edit(shmpool::array<double>&) {
}

int main() {
  shmpool::detail::require_call<decltype(edit)&, shmpool::array<double>>();
}
