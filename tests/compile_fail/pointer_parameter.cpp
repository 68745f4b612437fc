// expect: shmpool: a pointer means nothing in another process
#include <shmpool/detail/codec/callable.hpp>

int length(const char* text) {
  return text[0];
}

int main() {
  shmpool::detail::require_call<decltype(length)&, const char*>();
}
