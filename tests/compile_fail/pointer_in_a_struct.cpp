// expect: shmpool: a value holds an address (the last type that is named here)
#include <shmpool/detail/codec/callable.hpp>

#include <vector>

struct name_and_number {
  int number;
  const char* name;
};

int count(const std::vector<name_and_number>& x) {
  return static_cast<int>(x.size());
}

int main() {
  shmpool::detail::require_call<decltype(count)&, std::vector<name_and_number>&>();
}
