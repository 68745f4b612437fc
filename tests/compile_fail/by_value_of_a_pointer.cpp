// expect: shmpool: by_value copies the bytes of a function object, and this one holds a pointer
#include <shmpool/by_value.hpp>

struct scale {
  double operator()(double x) const { return x * *factor; }
  const double* factor;
};

int main() {
  const double factor = 2;
  return shmpool::by_value(scale{&factor}).function.factor != nullptr;
}
