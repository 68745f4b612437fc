// expect: shmpool: an argument cannot be converted to its parameter's type
#include <shmpool/detail/codec/callable.hpp>

#include <string>

int twice(int x) {
  return 2 * x;
}

int main() {
  shmpool::detail::require_call<decltype(twice)&, std::string>();
}
