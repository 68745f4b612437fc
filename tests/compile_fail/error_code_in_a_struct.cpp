// expect: shmpool: a value of plain bytes holds an error code, which points to its category
#include <shmpool/detail/codec/callable.hpp>

#include <system_error>

struct outcome {
  int attempts;
  std::error_code error;
};

outcome attempt() {
  return {};
}

int main() {
  shmpool::detail::require_call<decltype(attempt)&>();
}
