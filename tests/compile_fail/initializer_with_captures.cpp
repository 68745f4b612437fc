// expect: shmpool: an initializer or finalizer with arguments is made by shmpool::bind
#include <shmpool/options.hpp>

int main() {
  int number = 3;
  shmpool::pool_options options{.initializer = [number] { (void)number; }};
}
