// expect: shmpool: a task's result must be default constructible and movable: return std::optional or std::unique_ptr
#include <shmpool/detail/codec/callable.hpp>

struct reading {
  explicit reading(int v) : value(v) {}
  int value;
};
reading measure() {
  return reading(1);
}

int main() {
  shmpool::detail::require_call<decltype(measure)&>();
}
