// expect: shmpool: array elements must not hold pointers, views, error codes
#include <shmpool/array.hpp>

int main() {
  shmpool::array<const char*> names;
  return names.empty();
}
