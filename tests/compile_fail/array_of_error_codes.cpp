// expect: shmpool: array elements must not hold pointers, views, error codes
#include <shmpool/array.hpp>

#include <system_error>

int main() {
  shmpool::array<std::error_code, 2> errors;
  return errors.empty();
}
