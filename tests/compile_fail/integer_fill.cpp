// expect: shmpool: make_array takes extents (integers, or one std::array of them) and then at most one value to fill
#include <shmpool/array.hpp>

int main() {
  return shmpool::make_array<double>(2, 1.0, 3).empty();
}
