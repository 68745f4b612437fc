// expect: shmpool: array elements must be trivially copyable
#include <shmpool/array.hpp>

#include <string>

int main() {
  shmpool::array<std::string> names;
  return names.empty();
}
