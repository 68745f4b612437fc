// expect: shmpool: a lambda with captures cannot be sent to another process: pass what it captures as arguments, or
#include <shmpool/detail/codec/callable.hpp>

int main() {
  int captured = 1;
  auto f = [captured](int x) { return x + captured; };
  using task = shmpool::detail::task_for<decltype(f)&, int>;
  return task::ref(f).target != nullptr;
}
