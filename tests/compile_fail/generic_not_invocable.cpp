// expect: shmpool: the function object cannot be called with these arguments; arrays reach a generic function as
#include <shmpool/detail/codec/callable.hpp>

int main() {
  auto f = [](auto a, auto b) { return a + b; };
  shmpool::detail::require_call<decltype(f)&, int>();
}
