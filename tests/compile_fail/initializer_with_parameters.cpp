// expect: shmpool: an initializer or finalizer with arguments is made by shmpool::bind
#include <shmpool/options.hpp>

void look(int) {
}

int main() {
  shmpool::pool_options options{.initializer = look};
}
