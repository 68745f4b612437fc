// expect: shmpool: by_value copies the bytes of a function object, so it must be trivially copyable
#include <shmpool/by_value.hpp>

#include <string>

int main() {
  std::string text = "x";
  auto f = shmpool::by_value([text] { return text.size(); });
  return static_cast<int>(f.function());
}
