// expect: shmpool: the function takes another number of arguments than were passed
#include <shmpool/detail/codec/callable.hpp>

int add(int a, int b) {
  return a + b;
}

int main() {
  shmpool::detail::require_call<decltype(add)&, int>();
}
