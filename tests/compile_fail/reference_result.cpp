// expect: shmpool: a task cannot return a reference to something in another process
#include <shmpool/detail/codec/callable.hpp>

int& counter() {
  static int count = 0;
  return count;
}

int main() {
  shmpool::detail::require_call<decltype(counter)&>();
}
