// expect: would be lost: take it by value and return it
#include <shmpool/detail/codec/callable.hpp>

#include <string>

void append(std::string& text) {
  text += "x";
}

int main() {
  shmpool::detail::require_call<decltype(append)&, std::string&>();
}
