// expect: shmpool: a pointer to a member cannot be sent
#include <shmpool/detail/codec/callable.hpp>

#include <string>

int main() {
  shmpool::detail::require_call<decltype(&std::string::size), std::string>();
}
