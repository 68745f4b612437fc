// expect: shmpool: a pointer means nothing in another process
#include <shmpool/bind.hpp>

void look(const char*) {
}

int main() {
  shmpool::bind(look, "text");
}
