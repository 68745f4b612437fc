// expect: shmpool: this parameter only refers to memory, which the worker does not have
#include <shmpool/detail/codec/callable.hpp>

#include <functional>

int get(std::reference_wrapper<int> x) {
  return x;
}

int main() {
  shmpool::detail::require_call<decltype(get)&, std::reference_wrapper<int>>();
}
