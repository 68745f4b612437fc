// expect: shmpool: a value holds an address (the last type that is named here)
#include <shmpool/detail/codec/callable.hpp>

struct handle {
  long long number;
  void* owner;
};
struct job {
  handle from;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(from);
  }
};

job make() {
  return {};
}

int main() {
  return shmpool::detail::task_for<decltype(make)&>::ref(&make).target == nullptr;
}
