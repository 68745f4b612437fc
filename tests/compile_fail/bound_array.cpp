// expect: shmpool: an initializer or finalizer has its arguments by value
#include <shmpool/bind.hpp>

void look(shmpool::array<const double>) {
}

int main() {
  shmpool::array<double> values;
  shmpool::bind(look, values);
}
