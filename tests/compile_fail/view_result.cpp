// expect: shmpool: a task cannot return a view of memory in another process
#include <shmpool/detail/codec/callable.hpp>

#include <string_view>

std::string_view name() {
  return "x";
}

int main() {
  shmpool::detail::require_call<decltype(name)&>();
}
