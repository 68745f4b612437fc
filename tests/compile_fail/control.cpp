// Compiles: the calls that the other files get wrong, made right.
#include <shmpool/detail/codec/callable.hpp>

#include <string>
#include <vector>

namespace {

void edit(std::span<double>) {
}
double look(shmpool::array<const double> x) {
  return x[0];
}
std::string append(std::string text) {
  return text + "x";
}

}  // namespace

int main() {
  shmpool::detail::require_call<decltype(edit)&, shmpool::array<double>&>();
  shmpool::detail::require_call<decltype(look)&, std::vector<double>&>();
  using task = shmpool::detail::task_for<decltype(append)&, const char*>;
  return task::ref(&append).target == nullptr;
}
