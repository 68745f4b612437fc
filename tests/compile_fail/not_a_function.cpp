// expect: shmpool: the first argument is not a function or function object
#include <shmpool/detail/codec/callable.hpp>

int main() {
  shmpool::detail::require_call<int, int>();
}
