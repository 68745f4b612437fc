// expect: shmpool: the last argument of make_array has the type of the elements, and could be an extent or a value
// Made ten times no elements.
#include <shmpool/array.hpp>

#include <cstdint>

int main() {
  return shmpool::make_array<std::uint8_t>(10, std::uint8_t{0}).empty();
}
