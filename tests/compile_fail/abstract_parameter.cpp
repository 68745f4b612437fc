// expect: shmpool: this parameter's type cannot be moved (or is abstract)
#include <shmpool/detail/codec/callable.hpp>

struct shape {
  virtual ~shape() = default;
  virtual double area() const = 0;
};
double area(const shape& s) {
  return s.area();
}

int main() {
  shmpool::detail::require_call<decltype(area)&, const shape&>();
}
