// expect: shmpool: a std::span<T> parameter is written by the task in shared memory: pass an array made with
#include <shmpool/detail/codec/callable.hpp>

#include <vector>

void edit(std::span<double>) {
}

int main() {
  std::vector<double> values(3);
  auto kept = shmpool::detail::store_arguments<decltype(edit)&>(values);
  (void)kept;
}
