// expect: shmpool: a value holds an address (the last type that is named here)
#include <shmpool/detail/codec/callable.hpp>

#include <vector>

int count(std::vector<int*> x) {
  return static_cast<int>(x.size());
}

int main() {
  using task = shmpool::detail::task_for<decltype(count)&, std::vector<int*>>;
  return task::ref(&count).target == nullptr;
}
