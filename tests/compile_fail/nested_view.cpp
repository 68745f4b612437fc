// expect: shmpool: a value holds an address (the last type that is named here)
#include <shmpool/detail/codec/callable.hpp>

#include <map>
#include <optional>
#include <string_view>

std::map<int, std::optional<std::string_view>> names() {
  return {{1, "x"}};
}

int main() {
  shmpool::detail::require_call<decltype(names)&>();
}
