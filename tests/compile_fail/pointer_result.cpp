// expect: shmpool: a task cannot return a pointer to something in another process
#include <shmpool/detail/codec/callable.hpp>

const char* name() {
  return "x";
}

int main() {
  shmpool::detail::require_call<decltype(name)&>();
}
